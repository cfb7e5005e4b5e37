import type { ServerResponse } from "node:http";

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
const isClosed = (response: ServerResponse & { stream?: { destroyed: boolean } }): boolean =>
  response.destroyed || response.stream?.destroyed === true;
