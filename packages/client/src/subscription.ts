import {
  applyPatch,
  type Frame,
  type JobSnapshot,
  type WorkflowEvent,
} from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";
import { backoff } from "./line.js";

/** One who watches the job of a subscription. */
export interface Viewer {
  /** The state, and what led to it since the one before. `resumed`: no event is missing between. */
  changed(
    job: JobSnapshot,
    events: readonly [cursor: string, WorkflowEvent][],
    resumed: boolean,
  ): void;
  /** How it is connected may have changed. */
  connected(): void;
  /** With the last state, or with why there is none. Nothing follows. */
  ended(outcome: JobSnapshot | MonitorClientError): void;
}

/** What a subscription needs of the line. */
export interface Carrier {
  readonly host: Host;
  /** Watches the job from the subscription's cursor on, over the links that there are. */
  ask(subscription: Subscription): void;
  /** Nothing more is wanted of it. */
  drop(subscription: Subscription): void;
}

/**
 * What this client knows of one job: a cursor into its log, and the state there. Frames may come over
 * any link, twice, or late; what is not newer is dropped. All watches of the job share it.
 */
export interface Subscription {
  readonly jobId: string;
  readonly viewers: Set<Viewer>;
  readonly cursor: string | undefined;
  readonly job: JobSnapshot | null;
  /** The link has told the state. */
  readonly answered: boolean;
  /** Why the link does not carry this job now, and when it is asked again. */
  readonly refusal: { cause: MonitorClientError; retryAt: number } | null;
  /** What is said of the job: by a link, unless it was read past them. */
  take(frame: Frame, byLink?: boolean): void;
  /** The server does not let this job be watched: now, or at all. */
  refuse(error: MonitorClientError): void;
  /** There is another link: it has not told anything yet. */
  unanswer(): void;
  connected(): void;
  /** It is over. Without an outcome nobody is told. Idempotent. */
  end(outcome?: JobSnapshot | MonitorClientError): void;
  leave(viewer: Viewer): void;
}

const epochOf = (cursor: string): string => cursor.slice(0, 12);
const revisionOf = (cursor = ""): number => Number(cursor.slice(13));

/** A page may open before the worker's first event: that long, an unknown job is only not there yet. */
const UNKNOWN_MS = 15_000;
const LONGEST_UNKNOWN_MS = 2_000;

export function createSubscription(
  carrier: Carrier,
  jobId: string,
  after: string | undefined,
): Subscription {
  const { host } = carrier;
  const since = host.uptime();
  const viewers = new Set<Viewer>();
  let here = after;
  let job: JobSnapshot | null = null;
  /** The epoch before this one: what comes of it is late. */
  let left: string | undefined;
  let answered = false;
  let refusal: Subscription["refusal"] = null;
  let refusals = 0;
  let cancelRetry = () => {};
  let over = false;

  function take(frame: Frame, byLink = true): void {
    if (over || !("cursor" in frame) || !/^\w{12}\.\d+$/.test(frame.cursor)) return;
    const { cursor: at } = frame;
    const epoch = epochOf(at);
    if (epoch === left) return;
    const was = here && epochOf(here);
    /** Revisions from here to there: NaN, where there is no way. */
    const ahead = epoch === was ? revisionOf(at) - revisionOf(here) : Number.NaN;

    if (frame.type === "snapshot") {
      if (byLink) {
        unanswer();
        answered = true;
        refusals = 0;
      }
      if (!job || !(ahead <= 0)) {
        const resumed = frame.resumed && epoch === was;
        if (epoch !== was) left = was;
        // Of what two links tell, the first have been seen.
        show(frame.job, at, resumed ? frame.events.slice(-ahead || Infinity) : [], resumed);
      }
      connected();
    } else if (frame.type === "update" && !(ahead <= 0)) {
      const next = frame.job ?? (job && frame.patch && applyPatch(job, frame.patch));
      if (ahead === 1 && next) show(next, at, [frame.event], true);
      else if (answered) ask(); // something is missing before it
    } else if (frame.type === "end" && !(ahead < 0)) {
      if (ahead === 0 && job) end(job);
      else if (answered) ask();
    }
  }

  /** Until the answer, nothing leads on. */
  function ask(): void {
    unanswer();
    carrier.ask(subscription);
    connected();
  }

  /** The i-th of n events belongs to revision head − n + i. */
  function show(
    next: JobSnapshot,
    at: string,
    events: readonly WorkflowEvent[],
    resumed: boolean,
  ): void {
    here = at;
    job = next;
    const before = revisionOf(at) - events.length;
    const placed = events.map((event, i): [string, WorkflowEvent] => [
      `${epochOf(at)}.${before + i + 1}`,
      event,
    ]);
    // Those of now: what is told may bring another one, who begins with the state.
    for (const viewer of [...viewers]) viewer.changed(next, placed, resumed);
  }

  function refuse(error: MonitorClientError): void {
    const mayCome = error.code === "unknown_job" && !job && host.uptime() - since < UNKNOWN_MS;
    if (!mayCome && !error.retryable) return end(error);
    const ms = backoff(error, refusals, host.random(), mayCome ? LONGEST_UNKNOWN_MS : undefined);
    unanswer();
    refusals += 1;
    refusal = { cause: error, retryAt: host.now() + ms };
    cancelRetry = host.setTimeout(ask, ms);
    connected();
  }

  function unanswer(): void {
    cancelRetry();
    refusal = null;
    answered = false;
  }

  function connected(): void {
    for (const viewer of viewers) viewer.connected();
  }

  function end(outcome?: JobSnapshot | MonitorClientError): void {
    if (over) return;
    over = true;
    cancelRetry();
    carrier.drop(subscription);
    if (outcome) for (const viewer of viewers) viewer.ended(outcome);
  }

  const subscription: Subscription = {
    jobId,
    viewers,
    get cursor() {
      return here;
    },
    get job() {
      return job;
    },
    get answered() {
      return answered;
    },
    get refusal() {
      return refusal;
    },
    take,
    refuse,
    unanswer,
    connected,
    end,
    leave(viewer) {
      viewers.delete(viewer);
      // Not at once: who closes a watch often begins another, of the same job.
      if (!viewers.size) host.setTimeout(() => viewers.size || end(), 0);
    },
  };
  return subscription;
}
