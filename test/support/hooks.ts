import { once } from "node:events";
import type { FastifyReply, FastifyRequest } from "fastify";

/** A host's hook that takes as long as the client stays. */
export function untilGone() {
  const hook = {
    asked: 0,
    done: 0,
    async run(_request: FastifyRequest, { raw }: FastifyReply): Promise<void> {
      hook.asked += 1;
      await once(raw, "close");
      hook.done += 1;
    },
  };
  return hook;
}
