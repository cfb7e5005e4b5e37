import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";

/**
 * Calls `fn` when a response is closed, at once when that is over: the client may have gone while a
 * hook of the host was at work. Returns how to take it back.
 */
export function onceClosed(response: ServerResponse, fn: () => void): () => void {
  if (isClosed(response)) fn();
  else response.once("close", fn);
  return () => response.off("close", fn);
}

/** HTTP/2 says it of the stream alone. */
export const isClosed = (response: ServerResponse & { stream?: { destroyed: boolean } }): boolean =>
  response.destroyed || response.stream?.destroyed === true;

/**
 * An answer of a server that goes: a connection that is kept would hold up its `close()` until it has
 * been idle for `keepAliveTimeout`. HTTP/2 has other ways, and no such header.
 */
export function closeAfter(reply: FastifyReply): void {
  if (reply.request.raw.httpVersionMajor < 2) reply.header("connection", "close");
}
