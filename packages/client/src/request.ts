import type { ErrorCode } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Fetch } from "./host.js";
import { badAnswer, unreachable } from "./link.js";

/** How to ask the server over HTTP. */
export interface Requests {
  fetch: Fetch;
  /** Of the list: `https://host/jobs`. */
  url: string;
  token(): Promise<string | undefined>;
}

/** Statuses that a later try may not get. RFC 9110 §15, RFC 6585 §4. */
const RETRYABLE = [408, 425, 429, 500, 502, 503, 504];

/** Asks, and gets an answer that is as it should be; anything else is thrown as a `MonitorClientError`. */
export async function request(
  { fetch, url, token }: Requests,
  path: string,
  headers: { accept: string; "if-none-match"?: string },
  signal: AbortSignal,
): Promise<Response> {
  const bearer = await token();
  const authorization = bearer !== undefined && { authorization: `Bearer ${bearer}` };
  const where = url + path;
  let response: Response;
  try {
    response = await fetch(where, { headers: { ...headers, ...authorization }, signal });
  } catch (cause) {
    throw unreachable(`Nothing answers at ${url}: is the server up, and is \`url\` right?`, cause);
  }
  const { status } = response;
  if (status === 204 || status === 304) return response;
  if (response.ok) {
    if (response.headers.get("content-type")?.startsWith(headers.accept)) return response;
    void response.body?.cancel();
    throw noMonitor(where);
  }
  throw await refusal(response, where);
}

const noMonitor = (where: string): MonitorClientError =>
  badAnswer(
    `${where} answers, but is no workflow monitor: check \`url\` and \`paths\`, and what stands between.`,
  );

/** What an answer other than 2xx says: a problem document of ours (RFC 9457), or something else. */
async function refusal(response: Response, where: string): Promise<MonitorClientError> {
  const { status, headers } = response;
  const retryable = RETRYABLE.includes(status);
  const seconds = Number(headers.get("retry-after") ?? Number.NaN);
  const details = { retryable, ...(seconds >= 0 && { retryAfterMs: seconds * 1_000 }) };
  const body = await response.json().catch(() => undefined);
  const { code, detail } = (body ?? {}) as { code?: unknown; detail?: unknown };
  if (status === 401) {
    const message = `${where} answers 401: the token is missing, wrong or too old.`;
    return new MonitorClientError("unauthorized", message);
  }
  if (typeof code === "string" && typeof detail === "string") {
    return new MonitorClientError(code as ErrorCode, detail, details);
  }
  if (status === 403) {
    return new MonitorClientError("forbidden", `${where} answers 403: you may not see this.`);
  }
  if (!retryable) return noMonitor(where);
  const message = `${where} answers ${status}: the server is not there, or not well. Trying again.`;
  return new MonitorClientError("unreachable", message, details);
}

/** The JSON of an answer. */
export async function readJson<T>(response: Response, where: string): Promise<T> {
  let text: string;
  try {
    text = await response.text();
  } catch (cause) {
    throw unreachable(`The answer of ${where} was cut off.`, cause);
  }
  try {
    return JSON.parse(text) as T;
  } catch {
    throw noMonitor(where);
  }
}
