import type { JobSnapshot } from "@org/workflow-monitor/protocol";
import { createConnector } from "./connector.js";
import { MonitorClientError } from "./errors.js";
import { type Fetch, type Host, platform, type WebSocketConstructor } from "./host.js";
import { framesOf, openHttp } from "./http-link.js";
import { ANSWER_MS, asError, parse } from "./link.js";
import { JSON_TYPE, type Requests, readEvents, request } from "./request.js";
import { openSocket } from "./socket-link.js";
import { createSubscription } from "./subscription.js";
import type { ClientTransport, JobPage, JobWatch, MonitorClient, WatchOptions } from "./types.js";
import { createWatch } from "./watch.js";

export interface MonitorClientOptions {
  /** The server's http(s) origin, and the path before `paths`, if any: `https://app.example/monitor`. */
  url: string | URL;
  /** Where the adapters are. Default `{ ws: "/ws", jobs: "/jobs" }`. */
  paths?: { ws?: string; jobs?: string };
  /**
   * Who this is: `Authorization: Bearer <token>` over HTTP, a subprotocol over WebSocket. A function is
   * asked at each connection and request, so that it can bring a fresh one. Default none: cookies.
   */
  token?: string | (() => string | Promise<string>);
  /** In the order in which they are tried. Default `["ws", "sse", "poll"]`. */
  transports?: readonly ClientTransport[];
  /** Default the global one; where there is none (Node 20), give that of the package `ws`, or the client begins with `sse`. */
  WebSocket?: WebSocketConstructor;
  /** Default the global one. */
  fetch?: Fetch;
}

/**
 * A viewer's side of the monitor: watches jobs over one connection, on the best transport that gets
 * through, across lost connections. Connects when something is watched.
 *
 * @param host for tests: a clock, chance and a network of their own
 * @throws TypeError when an option makes no sense
 */
export function createMonitorClient(
  {
    url,
    paths: { ws = "/ws", jobs = "/jobs" } = {},
    token,
    transports = ["ws", "sse", "poll"],
    // As they are now; `fetch` insists on being called without an object.
    WebSocket = (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket,
    fetch = globalThis.fetch.bind(globalThis) as Fetch,
  }: MonitorClientOptions,
  host: Host = platform,
): MonitorClient {
  // Without what may be secret, or would end up in the middle.
  const { origin, pathname } = new URL(url);
  const base = origin + pathname.replace(/\/+$/, "");
  if (!/^https?:/.test(base)) throw new TypeError("`url` must be http(s).");
  const usable = transports.filter((transport) => transport !== "ws" || WebSocket);
  if (!usable[0]) throw new TypeError("No transport works.");

  const requests: Requests = {
    fetch,
    url: base + jobs,
    async token() {
      try {
        const bearer = typeof token === "function" ? await token() : token;
        // As of a file's last line. What `fetch` says of such a header has the token in it.
        return bearer?.replace(/[\0\r\n]/g, "");
      } catch (cause) {
        throw new MonitorClientError("token_failed", "`token` has failed.", {
          retryable: true,
          cause,
        });
      }
    },
  };
  const socket = {
    host,
    WebSocket: WebSocket as WebSocketConstructor,
    url: base.replace("http", "ws") + ws,
    token: requests.token,
  };

  const connector = createConnector({
    host,
    transports: usable,
    open: (transport, listener) =>
      transport === "ws"
        ? openSocket(socket, listener)
        : openHttp({ host, requests, streams: transport === "sse" }, listener),
    async reread({ jobId, cursor }) {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const frame = await readEvents(requests, jobId, cursor, signal).catch(() => {});
      return frame ? framesOf(frame) : [];
    },
  });
  let closed = false;

  function watch(jobId: string, { signal, after }: WatchOptions = {}): JobWatch {
    if (!jobId) throw new TypeError("Say which job to watch.");
    const known = connector.find(jobId);
    const subscription = known ?? createSubscription(connector, jobId, after);
    const job = createWatch(subscription, connector);
    if (closed || signal?.aborted) job.close();
    else {
      subscription.viewers.add(job);
      signal?.addEventListener("abort", job.close);
      const forget = () => signal?.removeEventListener("abort", job.close);
      job.finished().then(forget, forget);
      if (!known) connector.add(subscription);
    }
    return job;
  }

  async function ask<T>(path: string, signal?: AbortSignal, key?: keyof T): Promise<T> {
    const late = AbortSignal.timeout(ANSWER_MS);
    const stop = signal ? AbortSignal.any([signal, late]) : late;
    try {
      const response = await request(requests, path, JSON_TYPE, stop);
      return parse<T>(await response.text(), requests.url, key);
    } catch (thrown) {
      throw asError(thrown, requests.url);
    }
  }

  return {
    watch,
    get: (jobId, { signal } = {}) => ask<JobSnapshot>(`/${encodeURIComponent(jobId)}`, signal),
    list(query = {}, { signal } = {}) {
      const given = JSON.parse(JSON.stringify(query)); // without what is undefined
      return ask<JobPage>(`?${new URLSearchParams(given)}`, signal, "jobs");
    },
    close() {
      closed = true;
      connector.close();
    },
  };
}
