import { type JobSnapshot, parseCursor, printCursor } from "@org/workflow-monitor/protocol";
import type { Connection, JobWatch, MonitorClient } from "../types.js";
import { onNextFrame } from "./frame.js";

/** What components show; another object whenever something about it has changed. */
interface JobView {
  readonly job: JobSnapshot | null;
  readonly connection: Connection;
}

/**
 * One job on one page: a watch that all components share, so that they show the same state, also one
 * that appears later. There is one while somebody listens.
 */
export interface JobFeed {
  readonly view: JobView;
  /** Tells of another view, at most once a frame. Returns a function that ends it. */
  listen(listener: () => void): () => void;
  /** Watches again what has failed or ended; else asks the server for what may not have come yet. */
  refetch(): void;
}

/** Is `one` an earlier state of the same log? A job in a shape of the host's own does not say: then it is not. */
export const isOlder = (one: JobSnapshot, other: JobSnapshot | null): boolean =>
  other !== null && one.epoch === other.epoch && one.revision < other.revision;

const pages = new WeakMap<MonitorClient, Map<string, JobFeed>>();

/** The feed of a job, if somebody listens to it. */
export const findFeed = (client: MonitorClient, jobId: string): JobFeed | undefined =>
  pages.get(client)?.get(jobId);

/** The feed of a job. A new one begins with what is known already, and is to be listened to at once. */
export function getFeed(client: MonitorClient, jobId: string, known: JobSnapshot | null): JobFeed {
  const feeds = pages.get(client) ?? new Map<string, JobFeed>();
  pages.set(client, feeds);
  const there = feeds.get(jobId);
  if (there) return there;
  const feed = createFeed(client, jobId, known, () => {
    if (feeds.get(jobId) === feed) feeds.delete(jobId);
  });
  feeds.set(jobId, feed);
  return feed;
}

function createFeed(
  client: MonitorClient,
  jobId: string,
  known: JobSnapshot | null,
  onClose: () => void,
): JobFeed {
  const listeners = new Set<() => void>();
  const reading = new AbortController();
  let cancelFrame: (() => void) | null = null;
  /** The newest; `view` follows in the next frame. */
  let job = known;
  let watch = begin();
  let view: JobView = { job, connection: watch.connection };

  function begin(): JobWatch {
    // After an end only the beginning of another run is of interest: that is read anew.
    const place = job && !job.done && printCursor(job);
    const after = place && parseCursor(place) ? { after: place } : {};
    const next = client.watch(jobId, after);
    next.on("change", take);
    next.on("connection", showSoon);
    return next;
  }

  function take(next: JobSnapshot): void {
    if (isOlder(next, job)) return;
    job = next;
    showSoon();
  }

  function showSoon(): void {
    cancelFrame ??= onNextFrame(show);
  }

  function show(): void {
    cancelFrame?.();
    cancelFrame = null;
    const { connection } = watch;
    if (job === view.job && connection === view.connection) return;
    view = { job, connection };
    for (const listener of [...listeners]) listener();
  }

  function close(): void {
    onClose();
    reading.abort();
    watch.close();
    cancelFrame?.();
  }

  const isOver = () => ["failed", "ended"].includes(watch.connection.state);

  async function read(): Promise<void> {
    const next = await client.get(jobId, { signal: reading.signal });
    // It may be late: after the end nothing follows, and of another log only the watch can tell.
    if (!isOver() && (!job || isOlder(job, next))) take(next);
  }

  return {
    get view() {
      return view;
    },
    listen(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
        // Another component may come in the same turn: the client stays subscribed for so long.
        if (!listeners.size) close();
      };
    },
    refetch() {
      if (isOver()) {
        watch = begin();
        show();
      } else {
        read().catch(() => {}); // `connection` tells what is wrong.
      }
    },
  };
}
