import type { SnapshotFrame } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Fetch } from "./host.js";
import { noMonitor, unreachable } from "./link.js";

/** How to ask the server over HTTP. */
export interface Requests {
  fetch: Fetch;
  /** Of the list: `https://host/jobs`. */
  url: string;
  token(): Promise<string | undefined>;
}

/** Statuses that a later try may not get. RFC 9110 §15, RFC 6585 §4. */
const isRetryable = (status: number): boolean => status >= 500 || status === 429 || status === 408;

/** Asks. Throws a `MonitorClientError` for anything but a 2xx of that type, 204 or 304. */
export async function request(
  { fetch, url, token }: Requests,
  path: string,
  headers: { accept: string; "if-none-match"?: string },
  signal: AbortSignal,
): Promise<Response> {
  const bearer = await token();
  const authorization = bearer && { authorization: `Bearer ${bearer}` };
  const response = await fetch(url + path, {
    headers: { ...headers, ...authorization },
    signal,
  }).catch((cause: unknown) => {
    throw unreachable(`Nothing answers at ${url}: is the server up, and \`url\` right?`, cause);
  });
  const { status, ok } = response;
  const isWanted = response.headers.get("content-type")?.startsWith(headers.accept);
  if (status === 204 || status === 304 || (ok && isWanted)) return response;
  if (!ok) throw await refusal(response, url);
  void response.body?.cancel();
  throw noMonitor(url);
}

/** What an answer other than 2xx says: a problem document of ours (RFC 9457), or something else. */
async function refusal(response: Response, url: string): Promise<MonitorClientError> {
  const { status, headers } = response;
  const retryable = isRetryable(status);
  const retryAfterMs = Number(headers.get("retry-after")) * 1_000 || undefined;
  const problem = await response.json().catch(() => {});
  const { code, detail = `${url} answers ${status}.` } = problem ?? {};
  if (status === 401) return new MonitorClientError("unauthorized", `${detail} Check \`token\`.`);
  if (typeof problem?.detail === "string" && typeof code === "string") {
    return new MonitorClientError(problem.code, detail, { retryable, retryAfterMs });
  }
  if (status === 403) return new MonitorClientError("forbidden", detail);
  if (!retryable) return noMonitor(url);
  return new MonitorClientError("unreachable", detail, { retryable, retryAfterMs });
}

/** The JSON of an answer. */
export async function readJson<T>(response: Response, url: string): Promise<T> {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw noMonitor(url);
  }
}

/** A query string of what is given. */
export const search = (query: object): string =>
  `?${new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined))}`;

/** The path of a job's events. */
export const eventsPath = (
  jobId: string,
  query: { after: string | undefined; mode?: "delta"; wait?: number },
): string => `/${encodeURIComponent(jobId)}/events${search(query)}`;

/**
 * The frame with every event since a cursor. With `wait`, in seconds, only if there is something
 * after the cursor within that time, else undefined.
 */
export async function readEvents(
  requests: Requests,
  jobId: string,
  after: string | undefined,
  signal: AbortSignal,
  wait?: number,
): Promise<SnapshotFrame | undefined> {
  const headers = {
    accept: "application/json",
    ...(after && wait !== undefined && { "if-none-match": `"${after}"` }),
  };
  const path = eventsPath(jobId, { after, ...(wait !== undefined && { wait }) });
  const response = await request(requests, path, headers, signal);
  return response.status === 200 ? readJson<SnapshotFrame>(response, requests.url) : undefined;
}
