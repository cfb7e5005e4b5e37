import type { JobSnapshot } from "@org/workflow-monitor/protocol";
import type { Connection, MonitorClient } from "../types.js";
import { findFeed, getFeed, isOlder, type JobFeed } from "./feed.js";
import { createTracker, type Select, type UseJobResult } from "./tracker.js";

/** What a component says at a render. */
interface Wish<T> {
  readonly enabled: boolean;
  readonly initial: JobSnapshot | null;
  readonly select: Select<T>;
}

/** One component's view of a job: what it knows, what it has read, and what it was told. */
export interface JobObserver<T> {
  /** Watches. `onDone` once for each watch of the job that has ended. Returns a function that stops. */
  subscribe(onChange: () => void, onDone: (job: JobSnapshot) => void): () => void;
  /** The same object until a field changes that was read. */
  read(wish: Wish<T>): UseJobResult<T>;
  /** The same before anything was watched: on a server, and while its page is taken over. */
  readInitial(wish: Wish<T>): UseJobResult<T>;
}

const unused = { transport: null, cause: null, retryAt: null, stale: false };
const CONNECTING: Connection = { state: "connecting", ...unused };
const ENDED: Connection = { state: "ended", ...unused };

const unwatched = (enabled: boolean, over: boolean | undefined): Connection | null =>
  enabled ? (over ? ENDED : CONNECTING) : null;

export function createObserver<T>(client: MonitorClient, jobId: string): JobObserver<T> {
  /** The newest that was shown. */
  let known: JobSnapshot | null = null;
  /** What is over is not watched again, unless `refetch` is called. */
  let over = false;
  /** While it is subscribed to. */
  let feed: JobFeed | null = null;
  let begin: (() => void) | null = null;

  const track = createTracker<T>(() => {
    if (!begin) return;
    (feed ?? findFeed(client, jobId))?.refetch();
    if (!feed) begin();
  });

  function learn(job: JobSnapshot | null): void {
    if (job && !(known && isOlder(job, known))) known = job;
  }

  /** Takes what came with a render: at first, or if it is newer. Returns it if it is of this job. */
  function offer(initial: JobSnapshot | null): JobSnapshot | null {
    if (initial?.jobId !== jobId) return null;
    if (!known) over = initial.done;
    if (!known || isOlder(known, initial)) known = initial;
    return initial;
  }

  return {
    subscribe(onChange, onDone) {
      let stop = () => {};

      function hear(): void {
        onChange();
        if (!feed) return;
        const { job, connection } = feed.view;
        over = connection.state === "ended";
        if (over && job) queueMicrotask(() => onDone(job)); // after React has shown it
      }

      begin = () => {
        feed = getFeed(client, jobId, known);
        stop = feed.listen(hear);
        hear();
      };
      if (!over) begin();
      return () => {
        stop();
        feed = null;
        begin = null;
      };
    },

    read({ enabled, initial, select }) {
      offer(initial);
      // Another component's, before this one has subscribed.
      const there = feed ?? (over ? undefined : findFeed(client, jobId));
      const view = enabled ? there?.view : undefined;
      learn(view?.job ?? null);
      return track(known, view?.connection ?? unwatched(enabled, over), select);
    },

    readInitial({ enabled, initial, select }) {
      const given = offer(initial);
      return track(given, unwatched(enabled, given?.done), select);
    },
  };
}
