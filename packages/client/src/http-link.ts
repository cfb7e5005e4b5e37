import type { EndFrame, Frame, SnapshotFrame } from "@org/workflow-monitor/protocol";
import type { ClientErrorCode, MonitorClientError } from "./errors.js";
import { createEventParser } from "./event-stream.js";
import type { Host } from "./host.js";
import {
  ANSWER_MS,
  asError,
  errorOf,
  type Link,
  type LinkListener,
  parse,
  unreachable,
  type Watchdog,
  watchdog,
} from "./link.js";
import { eventsPath, type Requests, readEvents, request } from "./request.js";

/** Browsers open six connections to a host over HTTP/1.1: these may be held for long. */
const HELD = 4;
/** How long a poll waits for something new, in seconds. */
const WAIT_S = 20;
/** The same of one that has to share a connection: not at all, but it gets no answer if there is nothing new. */
const SHORT_WAIT_S = 0.01;
/** Between its polls, if it changes all the time; and between its streams. */
const PAUSE_MS = 500;
/** Between those of a job that has no connection to wait on. */
const SHORT_POLL_MS = 2_000;
const EVENT_STREAM = "text/event-stream";

/** These are of one job: the link goes on. */
const ofTheJob: readonly ClientErrorCode[] = [
  "unknown_job",
  "forbidden",
  "bad_request",
  "too_many_viewers",
  "internal",
];

/** One job on a link, until its signal is aborted. */
interface Feed extends AbortController {
  jobId: string;
  after: string | undefined;
  silence: Watchdog;
  /** What a server that goes asks to wait. */
  retryMs?: number;
  /** Ends the pause between two requests, and whoever waits in it. */
  stopPause(): void;
}

/** What a WebSocket would have sent: of a job that is over, the end, too. */
export function framesOf(frame: SnapshotFrame): readonly (SnapshotFrame | EndFrame)[] {
  const { jobId, cursor, job, done } = frame;
  return done ? [frame, { type: "end", jobId, cursor, status: job.status }] : [frame];
}

/** HTTP: an event stream or a long-poll for each job; more jobs than connections to hold are polled. */
export function openHttp(
  { host, requests, streams }: { host: Host; requests: Requests; streams: boolean },
  listener: LinkListener,
): Link {
  const feeds = new Map<string, Feed>();

  function drop(feed: Feed): void {
    feed.abort();
    feed.silence.stop();
    feed.stopPause();
    if (feeds.get(feed.jobId) === feed) feeds.delete(feed.jobId);
  }

  function close(): void {
    for (const feed of feeds.values()) drop(feed);
  }

  function lose(feed: Feed, error: MonitorClientError, silent?: boolean): void {
    if (feed.signal.aborted) return;
    drop(feed);
    if (ofTheJob.includes(error.code)) {
      error.jobId ??= feed.jobId;
      listener.refused(feed.jobId, error);
    } else {
      close();
      listener.down(error, silent);
    }
  }

  function deliver(feed: Feed, frame: Frame): void {
    if (feed.signal.aborted) return;
    if (frame.type === "error") {
      const error = errorOf(frame);
      error.retryAfterMs ??= feed.retryMs;
      throw error;
    }
    if ("cursor" in frame) feed.after = frame.cursor;
    feed.silence.heard(frame);
    listener.frame(frame);
    if (frame.type === "end") drop(feed);
  }

  async function poll(feed: Feed, wait = 0): Promise<void> {
    feed.silence.expect(ANSWER_MS + wait * 1_000);
    const frame = await readEvents(requests, feed.jobId, feed.after, feed.signal, wait);
    if (frame) for (const each of framesOf(frame)) deliver(feed, each);
    else if (!feed.signal.aborted) listener.up();
  }

  async function stream(feed: Feed): Promise<void> {
    const { jobId, after, signal, silence } = feed;
    silence.expect(ANSWER_MS);
    const path = eventsPath(jobId, after, "mode=delta");
    const { status, body } = await request(requests, path, EVENT_STREAM, signal);
    // Nothing is to come, since the cursor is that of the end: only the state is not known.
    if (status !== 200) return poll(feed);
    const read = createEventParser(
      (data) => deliver(feed, parse<Frame>(data, requests.url, "type")),
      (ms) => {
        feed.retryMs = ms;
      },
    );
    const reader = body?.getReader();
    const decoder = new TextDecoder();
    for (let heard = false; ; heard = true) {
      const part = await reader?.read();
      if (!part?.value) {
        // The server moves its viewers on from time to time; their cursor goes with them.
        if (heard) return;
        throw unreachable(requests.url, "silence"); // a proxy's
      }
      read(decoder.decode(part.value, { stream: true }));
    }
  }

  async function run(feed: Feed): Promise<void> {
    const { signal, silence } = feed;
    // The oldest: another one takes the place of one that is over.
    const isHeld = () => [...feeds.values()].indexOf(feed) < HELD;
    // The first poll does not wait: whether it works has to show.
    for (let wait = 0; !signal.aborted; wait = isHeld() ? WAIT_S : SHORT_WAIT_S) {
      if (streams && isHeld()) await stream(feed);
      else await poll(feed, wait);
      silence.stop();
      if (signal.aborted) return;
      await new Promise<void>((resolve) => {
        feed.stopPause = host.setTimeout(resolve, isHeld() ? PAUSE_MS : SHORT_POLL_MS);
      });
    }
  }

  function unwatch(jobId: string): void {
    const feed = feeds.get(jobId);
    if (feed) drop(feed);
  }

  return {
    watch(jobId, after) {
      unwatch(jobId);
      const silence = watchdog(host, requests.url, (error) => lose(feed, error, true));
      const stopPause = () => {};
      const feed: Feed = Object.assign(new AbortController(), { jobId, after, silence, stopPause });
      feeds.set(jobId, feed);
      run(feed).catch((thrown: unknown) => lose(feed, asError(thrown, requests.url)));
    },
    unwatch,
    check() {
      for (const { silence } of feeds.values()) silence.look();
    },
    close,
  };
}
