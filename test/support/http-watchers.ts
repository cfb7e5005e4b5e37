import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Mode } from "@org/workflow-monitor";
import type { WatcherTransport, WireListener } from "./watchers.js";

/** One GET, aborted with the signal; undefined when that, or the line, ended it. */
function get(
  port: number,
  path: string,
  headers: Record<string, string>,
  signal: AbortSignal,
  wire: WireListener,
): Promise<IncomingMessage | undefined> {
  return new Promise((resolve) => {
    const sent: ClientRequest = request(
      { host: "127.0.0.1", port, path, headers, agent: false, signal },
      (response) => {
        response.on("error", () => {});
        wire.answered?.(response.statusCode as number, response.headers);
        resolve(response);
      },
    );
    sent.on("error", () => resolve(undefined));
    sent.end();
  });
}

async function* chunks(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  try {
    for await (const chunk of response) yield chunk as string;
  } catch {
    // cut off
  }
}

/** Of a whole answer of 200. */
async function bodyOf(response: IncomingMessage | undefined): Promise<string | undefined> {
  if (response?.statusCode !== 200) return undefined;
  let text = "";
  for await (const chunk of chunks(response)) text += chunk;
  return response.complete ? text : undefined;
}

const pathOf = (jobId: string, query: Record<string, string | undefined>): string => {
  const given = Object.entries(query).filter(
    (pair): pair is [string, string] => pair[1] !== undefined,
  );
  return `/jobs/${encodeURIComponent(jobId)}/events?${new URLSearchParams(given)}`;
};

/** Server-sent events; the cursor goes where an EventSource, or the first request, puts it. */
export const overEventStream = (
  port: number,
  mode: Mode = "full",
  wire: WireListener = {},
): WatcherTransport => ({
  transport: "sse",
  async *connect(jobId, after, signal, finish) {
    const headers = {
      accept: "text/event-stream",
      ...(after !== undefined && { "last-event-id": after }),
    };
    const response = await get(port, pathOf(jobId, { mode }), headers, signal, wire);
    if (response?.statusCode === 204) finish();
    if (response?.statusCode !== 200) return;
    let text = "";
    for await (const chunk of chunks(response)) {
      text += chunk;
      for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n")) {
        const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
        text = text.slice(end + 2);
        if (data !== undefined) yield data;
      }
    }
  },
});

/** Polls for events; with `wait` (seconds) long-polls. */
export const overEventPoll = (
  port: number,
  wait?: number,
  wire: WireListener = {},
): WatcherTransport => ({
  transport: wait === undefined ? "poll" : "long-poll",
  async *connect(jobId, after, signal, finish) {
    const path = pathOf(jobId, { after, wait: wait?.toString() });
    const response = await get(port, path, {}, signal, wire);
    const text = await bodyOf(response);
    if (text === undefined) return;
    if ((JSON.parse(text) as { done: boolean }).done) finish();
    yield text;
  },
});

/** Polls for the state. */
export const overPoll = (port: number, wire: WireListener = {}): WatcherTransport => ({
  transport: "poll",
  bodies: true,
  async *connect(jobId, after, signal, finish) {
    const headers = after === undefined ? {} : { "if-none-match": `"${after}"` };
    const path = `/jobs/${encodeURIComponent(jobId)}`;
    const response = await get(port, path, headers, signal, wire);
    const over = response?.headers["retry-after"] === undefined;
    if (response?.statusCode === 304 && over) finish();
    const text = await bodyOf(response);
    if (text === undefined) return;
    if (over) finish();
    yield text;
  },
});
