import type { PublishedEvent, WorkflowEvent } from "../events.js";
import type { Transport } from "../protocol.js";
import { type Cursor, parseCursor } from "../revision.js";
import type { JobSnapshot } from "../snapshot.js";
import { members } from "./json-text.js";
import { ObservedLog } from "./observed-log.js";
import { type Delivered, ObservedViewer, parsed } from "./observed-viewer.js";

/** A frame as a viewer received it, on a transport that pushes or by polling for events. */
export interface ObservedFrame {
  /** Its name: one cursor, over many connections and transports. What polls beside a stream is another viewer. */
  viewer: string;
  transport: Transport;
  /** Default: the job that the frame names. Frames that name none (heartbeats) are of the connection. */
  jobId?: string;
  /** The JSON text. Of `monitor.watch`, which yields objects: `JSON.stringify(frame)`, the same bytes. */
  text: string;
}

/** A body of `GET /jobs/:id`. */
export interface ObservedPoll {
  viewer: string;
  transport: Transport;
  jobId: string;
  /** Needed only when `present` left `epoch` and `revision` out of the body. */
  etag?: string | undefined;
  text: string;
}

export interface HistorySummary extends Delivered {
  jobs: number;
  viewers: number;
  /** Acknowledged publishes. */
  published: number;
  /** Frames and bodies, heartbeats too. */
  observations: Record<Transport, number>;
}

/**
 * Records a run, what publishers were told and what viewers got, and finds what PROTOCOL.md forbids:
 *
 * - dense: updates follow one another; `resumed: true` brings exactly the events since the viewer's
 *   cursor; `resumed: false` and polls may jump ahead, and nobody is sent back within an epoch;
 * - identical: one text of an event, of a job and of a patch for each revision, whoever gets it and
 *   however; patches lead to that job, to the byte;
 * - nothing that was not published is seen; what was acknowledged is seen by everybody who began
 *   before it, or skipped in so many words;
 * - nothing follows `end`, which tells the viewer's own cursor and the job's status there;
 * - every viewer reaches the head, but for those who gave up.
 */
export interface History {
  /**
   * A publish was acknowledged. Record all of a job's publishes (or its `update` events); with the
   * event, it is compared with what viewers get at that revision: leave it out when the host's `present`
   * shapes jobs, since viewers then do not get the event as it was published.
   */
  published(jobId: string, cursor: Cursor, event?: PublishedEvent | WorkflowEvent): void;
  /**
   * A publish of which nobody knows whether it is stored: its publisher died, or it rejected late. With
   * the event of each of them, other events are still compared with what was acknowledged.
   */
  indeterminate(jobId: string, event?: PublishedEvent | WorkflowEvent): void;
  /** The head as the store has it when everything is published: nothing lies beyond, and everybody gets there. */
  head(jobId: string, cursor: Cursor, job?: JobSnapshot): void;
  /**
   * A viewer connects, or asks for events: the next frame must be a snapshot. `after` is the cursor
   * that it brings, null for none; default: the last one that it saw. Needed after an `end`, for a
   * cursor from elsewhere, and to find a first frame that is no snapshot.
   */
  joined(join: { viewer: string; jobId: string; after?: Cursor | string | null }): void;
  observe(frame: ObservedFrame): void;
  polled(poll: ObservedPoll): void;
  /**
   * The viewer was told without a frame that it has everything of a job that is over: 204 to its event
   * stream, 304 without `Retry-After` to its poll.
   */
  finished(viewer: string, jobId: string): void;
  /** The viewer stopped watching the job, or all jobs: it need not reach the head. */
  gaveUp(viewer: string, jobId?: string): void;
  /** Checks a job that is over, and lets go of all but the violations: a soak can go on for ever. */
  forget(jobId: string): void;
  /** Sentences that name the viewer, the job and the cursor; at most 1,000. */
  violations(): string[];
  /** Throws one Error that lists the violations, at most 20 of them. */
  check(): void;
  readonly summary: HistorySummary;
}

const MOST_KEPT = 1_000;
const MOST_LISTED = 20;

export function createHistory(): History {
  const jobs = new Map<string, { log: ObservedLog; viewers: Map<string, ObservedViewer> }>();
  const names = new Set<string>();
  const givenUp = new Set<string>();
  const found: string[] = [];
  const counts = { jobs: 0, published: 0 };
  const observations = { ws: 0, sse: 0, poll: 0, "long-poll": 0, watch: 0 };
  const delivered = { snapshots: 0, resumed: 0, updates: 0, events: 0, skipped: 0, ends: 0 };

  function report(violation: string): void {
    if (found.length < MOST_KEPT) found.push(violation);
  }

  function jobOf(jobId: string) {
    let job = jobs.get(jobId);
    if (!job) {
      job = { log: new ObservedLog(jobId, report), viewers: new Map() };
      jobs.set(jobId, job);
      counts.jobs += 1;
    }
    return job;
  }

  function viewerOf(name: string, jobId: string): ObservedViewer {
    const { log, viewers } = jobOf(jobId);
    let viewer = viewers.get(name);
    if (!viewer) {
      viewer = new ObservedViewer(name, log, delivered);
      viewers.set(name, viewer);
      names.add(name);
    }
    return viewer;
  }

  function finish(jobId: string): string[] {
    const { log, viewers } = jobOf(jobId);
    const behind = [...viewers.values()].filter(({ viewer }) => !givenUp.has(viewer));
    return [...log.finish(), ...behind.flatMap((viewer) => viewer.finish())];
  }

  function observe({ viewer, transport, jobId, text }: ObservedFrame): void {
    observations[transport] += 1;
    const where = `${viewer} over ${transport}, job ${jobId ?? "unknown"}`;
    try {
      const frame = members(text);
      const type = parsed(frame, "type");
      const named = parsed(frame, "jobId");
      const of = jobId ?? named;
      if (typeof type !== "string") report(`${where}: a frame without a type`);
      else if (named !== undefined && named !== of) report(`${where}: a frame of job ${named}`);
      else if (typeof of === "string") viewerOf(viewer, of).frame(transport, type, frame);
    } catch (thrown) {
      report(`${where}: ${(thrown as Error).message}: ${text.slice(0, 100)}`);
    }
  }

  function polled({ viewer, transport, jobId, etag, text }: ObservedPoll): void {
    observations[transport] += 1;
    const cursor = cursorOfTag(etag) ?? cursorOfBody(text);
    if (cursor) viewerOf(viewer, jobId).polled(transport, cursor, text);
    else report(`${viewer} over ${transport}, job ${jobId}: a body without a cursor`);
  }

  const violations = (): string[] =>
    [...found, ...[...jobs.keys()].flatMap(finish)].slice(0, MOST_KEPT);

  return {
    published(jobId, cursor, event) {
      counts.published += 1;
      jobOf(jobId).log.acknowledge(cursor, event);
    },
    indeterminate(jobId, event) {
      jobOf(jobId).log.doubt(event);
    },
    head(jobId, { epoch, revision }, job) {
      jobOf(jobId).log.setHead({ epoch, revision }, job);
    },
    joined({ viewer, jobId, after }) {
      const cursor = typeof after === "string" ? (parseCursor(after) ?? null) : after;
      viewerOf(viewer, jobId).joined(cursor);
    },
    observe,
    polled,
    finished(viewer, jobId) {
      viewerOf(viewer, jobId).finished();
    },
    gaveUp(viewer, jobId) {
      if (jobId === undefined) givenUp.add(viewer);
      else viewerOf(viewer, jobId).gaveUp = true;
    },
    forget(jobId) {
      if (!jobs.has(jobId)) return;
      for (const violation of finish(jobId)) report(violation);
      jobs.delete(jobId);
    },
    violations,
    check() {
      const all = violations();
      if (all.length === 0) return;
      const more = all.length > MOST_LISTED ? `\n… and ${all.length - MOST_LISTED} more` : "";
      const list = all.slice(0, MOST_LISTED).map((violation) => `\n- ${violation}`);
      throw new Error(`the history has violations:${list.join("")}${more}`);
    },
    get summary() {
      return { ...counts, viewers: names.size, observations: { ...observations }, ...delivered };
    },
  };
}

/** `"<cursor>"`, weak or not, with `presentVersion` behind it or not. */
const cursorOfTag = (etag: string | undefined): Cursor | undefined =>
  parseCursor(/^(?:W\/)?"([a-z0-9]+\.\d+)(?:-\w+)?"$/.exec(etag ?? "")?.[1]);

function cursorOfBody(text: string): Cursor | undefined {
  try {
    const body = members(text);
    return parseCursor(`${parsed(body, "epoch")}.${parsed(body, "revision")}`);
  } catch {
    return undefined;
  }
}
