import type { FastifyReply } from "fastify";

/** Says what an answer depends on, besides what the host's hooks have said (CORS: `Origin`). */
export function vary(reply: FastifyReply, names: string): FastifyReply {
  const known = reply.getHeader("vary");
  return reply.header("vary", known ? `${known}, ${names}` : names);
}
