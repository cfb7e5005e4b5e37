import type { SnapshotFrame } from "@org/workflow-monitor/protocol";
import { type ClientErrorCode, MonitorClientError } from "./errors.js";
import type { Fetch } from "./host.js";
import { asError, lost, noMonitor, notAsMonitor } from "./link.js";

/** How to ask the server over HTTP. */
export interface Requests {
  fetch: Fetch;
  /** Of the list: `https://host/jobs`. */
  url: string;
  token(): Promise<string | undefined>;
}

export const JSON_TYPE = "application/json";

/** Asks. Throws a `MonitorClientError` for anything but a 2xx of that type, or 204. */
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
  }).catch((thrown: unknown) => {
    throw asError(thrown, url);
  });
  const { ok, status, headers } = response;
  const isWanted = ok && headers.get("content-type")?.startsWith(accept);
  if (status === 204 || isWanted) return response;
  throw await refusal(response, url);
}

/** What a status says that is not the monitor's own. */
const codes: Readonly<Record<number, ClientErrorCode>> = {
  401: "unauthorized",
  403: "forbidden",
  414: "bad_request", // the id of the job is too long
};

/** What any other answer says: a problem document of ours (RFC 9457), or something else. */
async function refusal(response: Response, url: string): Promise<MonitorClientError> {
  const { status, headers } = response;
  const retryable = status >= 500 || status === 429 || status === 408;
  const retryAfterMs = Number(headers.get("retry-after")) * 1_000 || undefined;
  const { code, detail } = (await response.json().catch(() => {})) ?? {};
  return new MonitorClientError(
    codes[status] ?? ((detail && code) || (retryable ? "unreachable" : "bad_answer")),
    detail ?? (retryable ? lost : notAsMonitor)(url, status),
    { retryable, retryAfterMs },
  );
}

/** The JSON of an answer. */
export const readJson = <T>(response: Response, url: string): Promise<T> =>
  response.json().catch((cause: unknown) => {
    throw cause instanceof SyntaxError ? noMonitor(url) : asError(cause, url);
  });

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
  return response.status === 200 ? readJson<SnapshotFrame>(response, requests.url) : undefined;
}
