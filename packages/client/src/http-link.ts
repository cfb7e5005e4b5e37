import type { EndFrame, Frame, SnapshotFrame } from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "./errors.js";
import { createEventParser } from "./event-stream.js";
import type { Host } from "./host.js";
import {
  ANSWER_MS,
  CHECK_MS,
  type Link,
  type LinkListener,
  parseFrame,
  silence,
  unreachable,
  Watchdog,
} from "./link.js";
import { type Requests, readJson, request } from "./request.js";
import { errorOf } from "./socket-link.js";

export interface HttpOptions {
  host: Host;
  requests: Requests;
}

/** Browsers open six connections to a host over HTTP/1.1: these may be held for long. */
const HELD = 4;
/** How long a poll waits for something new. */
const WAIT_S = 20;
/** Between the polls of a job that changes all the time. */
const POLL_MS = 500;
/** Between those of a job that has no connection to wait on. */
const SHORT_POLL_MS = 2_000;
/** A stream that ends sooner is not rotated, but broken. */
const ROTATED_MS = 1_000;

/** Of one job: these do not end the link. */
const OF_THE_JOB: readonly MonitorClientError["code"][] = [
  "unknown_job",
  "forbidden",
  "bad_request",
  "too_many_viewers",
  "internal",
];

export interface EventsQuery {
  after: string | undefined;
  /** How long to wait for something new; undefined: the state comes at once, new or not. */
  waitS?: number;
}

/** The frame with every event since a cursor; undefined when there was none within `waitS`. */
export async function readEvents(
  requests: Requests,
  jobId: string,
  { after, waitS }: EventsQuery,
  signal: AbortSignal,
): Promise<SnapshotFrame | undefined> {
  const path = eventsPath(jobId, {
    ...(after !== undefined && { after }),
    ...(waitS && { wait: String(waitS) }),
  });
  const headers = {
    accept: "application/json",
    ...(after !== undefined && waitS !== undefined && { "if-none-match": `"${after}"` }),
  };
  const response = await request(requests, path, headers, signal);
  return response.status === 200 ? readJson<SnapshotFrame>(response, requests.url) : undefined;
}

function eventsPath(jobId: string, query: Record<string, string>): string {
  const search = new URLSearchParams(query).toString();
  return `/${encodeURIComponent(jobId)}/events${search && `?${search}`}`;
}

/** What a WebSocket would have sent: of a job that is over, the end, too. */
export function framesOf(frame: SnapshotFrame): readonly (SnapshotFrame | EndFrame)[] {
  const { jobId, cursor, job, done } = frame;
  return done ? [frame, { type: "end", jobId, cursor, status: job.status }] : [frame];
}

/** One job on a link: ends when its signal is aborted; what it throws is why the job, or the link, is down. */
interface Feed {
  readonly jobId: string;
  after: string | undefined;
  /** Whether it may hold a connection. */
  readonly held: boolean;
  readonly signal: AbortSignal;
  stop(): void;
  /** Set by a stream. */
  check?: () => void;
}

/** HTTP: one event stream a job, or one long-poll; more jobs than connections to hold are polled. */
export function openHttp(
  kind: "sse" | "poll",
  { host, requests }: HttpOptions,
  listener: LinkListener,
): Link {
  const feeds = new Map<string, Feed>();
  let closed = false;

  function close(): void {
    closed = true;
    for (const feed of feeds.values()) feed.stop();
    feeds.clear();
  }

  /** Over: of its own, of another begun for the same job, or of the link. */
  const isOver = (feed: Feed): boolean => feed.signal.aborted;

  function deliver(feed: Feed, frame: Frame): void {
    if (isOver(feed)) return;
    if ("cursor" in frame) feed.after = frame.cursor;
    listener.up();
    if (frame.type === "error") throw errorOf(frame);
    listener.frame(frame);
    if (frame.type === "end") drop(feed);
  }

  function drop(feed: Feed): void {
    feed.stop();
    if (feeds.get(feed.jobId) === feed) feeds.delete(feed.jobId);
  }

  function lose(feed: Feed, error: MonitorClientError, silent = false): void {
    if (isOver(feed)) return;
    drop(feed);
    if (OF_THE_JOB.includes(error.code)) {
      listener.up();
      listener.refused(feed.jobId, error);
      return;
    }
    close();
    listener.down(error, silent);
  }

  // ── streams ────────────────────────────────────────────────────────────────────────────────────

  async function stream(feed: Feed): Promise<void> {
    while (!isOver(feed)) {
      const begun = host.now();
      if (!(await streamOnce(feed))) return;
      // The server moves its viewers on from time to time; their cursor goes with them.
      if (host.now() - begun < ROTATED_MS) throw unreachable("The event stream ends at once.");
    }
  }

  /** Whether there is more to come. */
  async function streamOnce(feed: Feed): Promise<boolean> {
    let retryMs = 0;
    const path = eventsPath(feed.jobId, {
      mode: "delta",
      ...(feed.after !== undefined && { after: feed.after }),
    });
    const watchdog = new Watchdog(host, (ms) => lose(feed, silence(ms), true));
    feed.signal.addEventListener("abort", () => watchdog.stop(), { once: true });
    feed.check = () => watchdog.silentMs > CHECK_MS && lose(feed, silence(watchdog.silentMs), true);
    try {
      const response = await request(requests, path, { accept: "text/event-stream" }, feed.signal);
      if (response.status !== 200) {
        await pollOnce(feed); // nothing to come: the cursor is that of the end
        return false;
      }
      const parse = createEventParser(
        (data) => {
          const frame = parseFrame(data);
          if (frame.type === "snapshot") watchdog.heartbeatMs = frame.heartbeatMs;
          deliver(feed, frame);
        },
        (ms) => {
          retryMs = ms;
        },
      );
      for await (const chunk of chunks(response)) {
        watchdog.heard();
        parse(chunk);
        if (isOver(feed)) return false;
      }
    } catch (thrown) {
      const error = asError(thrown);
      // The server's word on when to come back, if it has no better one.
      if (error.retryable && error.retryAfterMs === undefined) {
        Object.assign(error, { retryAfterMs: retryMs });
      }
      throw error;
    } finally {
      watchdog.stop();
    }
    return true;
  }

  // ── polls ──────────────────────────────────────────────────────────────────────────────────────

  async function poll(feed: Feed): Promise<void> {
    await pollOnce(feed); // at once: whether it works has to show
    while (!isOver(feed)) {
      await pause(feed, feed.held ? POLL_MS : SHORT_POLL_MS);
      await pollOnce(feed, feed.held ? WAIT_S : 0);
    }
  }

  async function pollOnce(feed: Feed, waitS?: number): Promise<void> {
    const { jobId, after, signal } = feed;
    const ms = (waitS ?? 0) * 1_000 + ANSWER_MS;
    const cancel = host.setTimeout(() => lose(feed, silence(ms), true), ms);
    try {
      const query = { after, ...(waitS !== undefined && { waitS }) };
      const frame = await readEvents(requests, jobId, query, signal);
      if (isOver(feed)) return;
      if (!frame) return listener.up();
      for (const each of framesOf(frame)) deliver(feed, each);
    } finally {
      cancel();
    }
  }

  const pause = (feed: Feed, ms: number): Promise<void> =>
    new Promise((resolve) => {
      const cancel = host.setTimeout(resolve, ms);
      const stop = () => {
        cancel();
        resolve();
      };
      feed.signal.addEventListener("abort", stop, { once: true });
    });

  return {
    watch(jobId, after) {
      feeds.get(jobId)?.stop();
      feeds.delete(jobId);
      const stopped = new AbortController();
      const held = [...feeds.values()].filter((feed) => feed.held).length < HELD;
      const { signal } = stopped;
      const feed: Feed = { jobId, after, held, signal, stop: () => stopped.abort() };
      feeds.set(jobId, feed);
      const run = kind === "sse" && held ? stream(feed) : poll(feed);
      run.catch((thrown: unknown) => lose(feed, asError(thrown)));
    },
    unwatch(jobId) {
      const feed = feeds.get(jobId);
      if (feed) drop(feed);
    },
    check() {
      if (!closed) for (const feed of [...feeds.values()]) feed.check?.();
    },
    close,
  };
}

const asError = (thrown: unknown): MonitorClientError =>
  (thrown as Error)?.name === "MonitorClientError"
    ? (thrown as MonitorClientError)
    : unreachable("The connection is lost: connecting again.", thrown);

/** The text of a body as it comes. */
async function* chunks(response: Response): AsyncGenerator<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const part = await reader?.read();
      if (!part || part.done) return;
      yield decoder.decode(part.value, { stream: true });
    }
  } finally {
    void reader?.cancel().catch(() => {});
  }
}
