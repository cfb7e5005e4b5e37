import type { SnapshotFrame } from "@org/workflow-monitor/protocol";
import { type ClientErrorCode, MonitorClientError } from "./errors.js";
import type { Fetch } from "./host.js";
import { lost, notAsMonitor, parse } from "./link.js";

/** How to ask the server over HTTP. */
export interface Requests {
  fetch: Fetch;
  /** Of the list: `https://host/jobs`. */
  url: string;
  token(): Promise<string | undefined>;
}

export const JSON_TYPE = "application/json";

/** Asks. Throws a `MonitorClientError` for anything but a 2xx of that type, or 204; else what `fetch` throws. */
export async function request(
  { fetch, url, token }: Requests,
  path: string,
  accept: string,
  signal: AbortSignal,
): Promise<Response> {
  const bearer = await token();
  const authorization = bearer && { authorization: `Bearer ${bearer}` };
  const response = await fetch(url + path, {
    headers: { accept, ...authorization },
    signal,
  });
  if (response.status === 204) return response;
  if (response.ok && response.headers.get("content-type")?.startsWith(accept)) return response;
  throw await refusal(response, url);
}

/** What a status says that is not the monitor's own; likewise a close code, less 4000. */
export const codes: Readonly<Record<number, ClientErrorCode>> = {
  401: "unauthorized",
  403: "forbidden",
  414: "bad_request", // the id of the job is too long
};

/** What any other answer says: a problem document of ours (RFC 9457), or something else. */
async function refusal(response: Response, url: string): Promise<MonitorClientError> {
  const { status } = response;
  const retryable = status >= 500 || status === 429 || status === 408;
  const retryAfterMs = Number(response.headers.get("retry-after")) * 1_000 || undefined;
  const { code, detail } = (await response.json().catch(() => {})) ?? {};
  return new MonitorClientError(
    codes[status] ?? ((detail && code) || (retryable ? "unreachable" : "bad_answer")),
    detail ?? (retryable ? lost : notAsMonitor)(url, status),
    { retryable, retryAfterMs },
  );
}

/** The path of a job's events. */
export const eventsPath = (jobId: string, after: string | undefined, more: string): string =>
  `/${encodeURIComponent(jobId)}/events?after=${after ?? ""}&${more}`;

/**
 * The frame with every event since a cursor: at once, or, with `wait` (in seconds), as soon as there
 * is something after it; undefined when that takes too long.
 */
export async function readEvents(
  requests: Requests,
  jobId: string,
  after: string | undefined,
  signal: AbortSignal,
  wait = 0,
): Promise<SnapshotFrame | undefined> {
  const path = eventsPath(jobId, after, `wait=${wait}`);
  const response = await request(requests, path, JSON_TYPE, signal);
  // Anything else would be asked for ever.
  return response.status === 200
    ? parse<SnapshotFrame>(await response.text(), requests.url, "cursor")
    : undefined;
}
