import { type JobSnapshot, parseCursor } from "@org/workflow-monitor/protocol";
import { Connector } from "./connector.js";
import { MonitorClientError } from "./errors.js";
import { type Fetch, type Host, platform, type WebSocketConstructor } from "./host.js";
import { framesOf, openHttp, readEvents } from "./http-link.js";
import { ANSWER_MS } from "./link.js";
import { type Requests, readJson, request } from "./request.js";
import { openSocket } from "./socket-link.js";
import { eventsAfter, type Happened, Subscription } from "./subscription.js";
import type {
  ClientTransport,
  JobPage,
  JobQuery,
  JobWatch,
  MonitorClient,
  WatchOptions,
} from "./types.js";
import { Watch } from "./watch.js";

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

const TRANSPORTS: readonly ClientTransport[] = ["ws", "sse", "poll"];

/**
 * A viewer's side of the monitor: watches jobs over one connection, on the best transport that gets
 * through, across lost connections. Connects when something is watched.
 *
 * @throws TypeError when an option makes no sense
 */
export const createMonitorClient = (options: MonitorClientOptions): MonitorClient =>
  createClient(options, platform);

/** The same, with a clock, chance and a network of one's own. */
export function createClient(options: MonitorClientOptions, host: Host): MonitorClient {
  const { paths, token } = options;
  const base = baseOf(options.url);
  const WebSocket =
    options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  // Called as a function of its own: browsers insist.
  const { fetch = globalThis.fetch?.bind(globalThis) as Fetch } = options;
  const transports = (options.transports ?? TRANSPORTS).filter((transport) => {
    if (!TRANSPORTS.includes(transport)) throw new TypeError(`"${transport}" is no transport.`);
    return transport !== "ws" || WebSocket;
  });
  if (transports.length === 0) throw new TypeError("transports: there is none that works here.");

  const requests: Requests = {
    fetch,
    url: base + (paths?.jobs ?? "/jobs"),
    token: () => tokenOf(token),
  };
  const wsUrl = base.replace(/^http/, "ws") + (paths?.ws ?? "/ws");

  /** One read past the links, for who needs the past. */
  async function read(jobId: string, after: string | undefined) {
    const signal = AbortSignal.timeout(ANSWER_MS);
    return readEvents(requests, jobId, { after }, signal).catch(() => undefined);
  }

  const connector = new Connector({
    host,
    transports,
    open: (transport, listener) =>
      transport === "ws" && WebSocket
        ? openSocket({ host, WebSocket, url: wsUrl, token: requests.token }, listener)
        : openHttp(transport === "poll" ? "poll" : "sse", { host, requests }, listener),
    async reread({ jobId, cursor }) {
      const frame = await read(jobId, cursor);
      return frame ? framesOf(frame) : [];
    },
  });
  let closed = false;

  function watch(jobId: string, { signal, after }: WatchOptions = {}): JobWatch {
    if (typeof jobId !== "string" || jobId === "") throw new TypeError("Say which job to watch.");
    const from = parseCursor(after);
    const known = connector.find(jobId);
    const subscription = known ?? new Subscription(connector, jobId, from);
    const job: Watch = new Watch(jobId, {
      get job() {
        return subscription.job;
      },
      get connection() {
        return connector.connectionOf(subscription);
      },
      leave(viewer) {
        subscription.viewers.delete(viewer);
        // In the next turn: who closes one watch often begins another, of the same job.
        host.setTimeout(() => subscription.viewers.size === 0 && subscription.close(), 0);
      },
    });
    if (closed || signal?.aborted) {
      job.close();
      return job;
    }
    subscription.viewers.add(job);
    signal?.addEventListener("abort", () => job.close(), { once: true });
    if (!known) connector.add(subscription);
    else if (from && after !== known.cursor) void job.catchUp(past(subscription, after));
    else job.begin();
    return job;
  }

  /** The events after a cursor that the job's subscription has passed already. */
  async function past(
    subscription: Subscription,
    after: string | undefined,
  ): Promise<{ events: readonly Happened[]; resumed: boolean }> {
    const frame = await read(subscription.jobId, after);
    if (frame) subscription.take(frame);
    const [from, at] = [parseCursor(after), parseCursor(frame?.cursor)];
    if (!frame?.resumed || !from || !at) return { events: [], resumed: false };
    return { events: eventsAfter(frame, at, from.revision), resumed: true };
  }

  async function ask<T>(path: string, signal: AbortSignal | undefined): Promise<T> {
    const timeout = AbortSignal.timeout(ANSWER_MS);
    const either = signal ? AbortSignal.any([signal, timeout]) : timeout;
    try {
      const response = await request(requests, path, { accept: "application/json" }, either);
      return await readJson<T>(response, requests.url);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }

  return {
    watch,
    get: (jobId, { signal } = {}) => ask<JobSnapshot>(`/${encodeURIComponent(jobId)}`, signal),
    list: (query = {}, { signal } = {}) => ask<JobPage>(searchOf(query), signal),
    close() {
      closed = true;
      connector.close();
    },
  };
}

function searchOf(query: JobQuery): string {
  const entries = Object.entries(query).filter(([, value]) => value !== undefined);
  const search = new URLSearchParams(entries.map(([key, value]) => [key, String(value)]));
  return search.size > 0 ? `?${search}` : "";
}

/** The url without what is after its path. Throws a TypeError. */
function baseOf(url: string | URL): string {
  const { protocol, origin, pathname } = new URL(url);
  if (!/^https?:$/.test(protocol)) throw new TypeError(`url: "${url}" is not of http or https.`);
  return origin + pathname.replace(/\/+$/, "");
}

async function tokenOf(token: MonitorClientOptions["token"]): Promise<string | undefined> {
  if (typeof token !== "function") return token;
  try {
    return await token();
  } catch (cause) {
    const message = "The function `token` has failed: trying again.";
    throw new MonitorClientError("token_failed", message, { retryable: true, cause });
  }
}
