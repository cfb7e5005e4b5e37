import type { Transport } from "../protocol.js";
import { applyPatch, type Cursor, type JobPatch, parseCursor, printCursor } from "../revision.js";
import type { JobSnapshot } from "../snapshot.js";
import { isTerminal, parseStatus } from "../status.js";
import { elements } from "./json-text.js";
import type { ObservedLog } from "./observed-log.js";

/** What viewers got, in numbers. */
export interface Delivered {
  snapshots: number;
  /** Snapshots with `resumed: true`. */
  resumed: number;
  updates: number;
  /** Events, of updates and of snapshots. */
  events: number;
  /** Revisions that viewers jumped over, by `resumed: false` or because they poll the state. */
  skipped: number;
  ends: number;
}

/** The members of a frame, as texts. */
export type FrameMembers = ReadonlyMap<string, string>;

/** One viewer of one job: a cursor that only goes on, over many connections and transports. */
export class ObservedViewer {
  readonly viewer: string;
  /** It need not reach the head. */
  gaveUp = false;
  readonly #log: ObservedLog;
  readonly #delivered: Delivered;
  /** How it is named: with the transport that it was seen on last. */
  #by: string;
  #transport: Transport | undefined;
  #cursor: Cursor | null = null;
  /** Where it stood in the epochs that it left. */
  readonly #left = new Map<string, number>();
  /** The next frame must be a snapshot. */
  #fresh = true;
  #ended = false;
  /** A poll told that the job is over, which is an end without a frame. */
  #polledEnd = false;
  /** What the next patch is applied to. */
  #job: JobSnapshot | undefined;

  constructor(viewer: string, log: ObservedLog, delivered: Delivered) {
    this.viewer = viewer;
    this.#by = viewer;
    this.#log = log;
    this.#delivered = delivered;
  }

  /** A new watch, from its last cursor (`after` undefined) or from another one. */
  joined(after: Cursor | null | undefined): void {
    this.#fresh = true;
    this.#ended = false;
    this.#polledEnd = false;
    if (after === undefined) return;
    this.#cursor = after;
    this.#left.clear();
  }

  frame(transport: Transport, type: string, frame: FrameMembers): void {
    this.#on(transport);
    const known = type === "snapshot" || type === "update" || type === "end";
    if (!known && type !== "error") return; // viewers ignore what they do not know
    if (this.#ended) return this.#violation(this.#cursor, `${type} after the end`);
    if (!known) {
      this.#fresh = true; // an error ends the watch
      return;
    }
    const cursor = parseCursor(parsed(frame, "cursor"));
    if (!cursor) return this.#violation(this.#cursor, `${type} without a valid cursor`);
    if (type === "snapshot") return this.#snapshot(cursor, frame);
    if (this.#fresh) this.#violation(cursor, `${type} before a snapshot`);
    this.#fresh = false;
    if (type === "update") this.#update(cursor, frame);
    else this.#end(cursor, frame);
  }

  /** The state, without events: it may skip revisions. */
  polled(transport: Transport, cursor: Cursor, body: string): void {
    this.#on(transport);
    this.#jump(cursor);
    this.#log.sawJob(cursor, body, this.#by);
    this.#moveTo(cursor);
    this.#job = undefined;
    this.#fresh = true;
    this.#ended = false;
    this.#polledEnd = this.#log.stateAt(cursor)?.done === true;
  }

  /** It was told, without a frame, that it has everything of a job that is over. */
  finished(): void {
    const cursor = this.#cursor;
    const state = cursor && this.#log.stateAt(cursor);
    if (!cursor || state?.done === false)
      this.#violation(cursor, `told that it is over, but the job is ${state?.status}`);
    this.#ended = true;
  }

  #snapshot(cursor: Cursor, frame: FrameMembers): void {
    const events = elements(frame.get("events") ?? "[]");
    this.#delivered.snapshots += 1;
    if (frame.get("resumed") === "true") this.#resume(cursor, events.length);
    else {
      if (events.length > 0) this.#violation(cursor, "events without resumed");
      this.#jump(cursor);
    }
    const base = cursor.revision - events.length;
    events.forEach((text, at) => {
      this.#log.sawEvent({ epoch: cursor.epoch, revision: base + at + 1 }, text, this.#by);
    });
    this.#delivered.events += events.length;
    this.#fresh = false;
    this.#moveTo(cursor);
    this.#takeJob(cursor, frame.get("job"));
    const done = this.#log.stateAt(cursor)?.done;
    this.#polledEnd = done === true && isPolling(this.#transport);
    if (done !== undefined && frame.get("done") !== String(done)) {
      this.#violation(cursor, `the snapshot says done ${frame.get("done")}, its job ${done}`);
    }
  }

  /** `resumed: true`: exactly the events since the viewer's cursor. */
  #resume(cursor: Cursor, events: number): void {
    this.#delivered.resumed += 1;
    const from = this.#cursor;
    if (from?.epoch !== cursor.epoch) {
      const brought = from ? printCursor(from) : "no cursor";
      return this.#violation(cursor, `resumed, but the viewer brought ${brought}`);
    }
    const missed = cursor.revision - from.revision;
    if (missed < 0) this.#violation(cursor, `back from ${printCursor(from)}`);
    else if (missed !== events) {
      const what = `resumed from ${printCursor(from)} with ${events} events instead of ${missed}`;
      this.#violation(cursor, what);
    }
  }

  /** Without its events: forward is an explicit skip, back is never right. */
  #jump(cursor: Cursor): void {
    const from = this.#cursor;
    const before = from?.epoch === cursor.epoch ? from.revision : this.#left.get(cursor.epoch);
    if (before === undefined) return;
    if (cursor.revision < before) this.#violation(cursor, `back from ${cursor.epoch}.${before}`);
    else this.#delivered.skipped += cursor.revision - before;
  }

  #update(cursor: Cursor, frame: FrameMembers): void {
    const from = this.#cursor;
    const event = frame.get("event");
    this.#delivered.updates += 1;
    this.#delivered.events += 1;
    const follows = from?.epoch === cursor.epoch && cursor.revision === from.revision + 1;
    if (from && !follows) {
      this.#violation(cursor, `the update after ${printCursor(from)}`);
      this.#job = undefined; // its patches do not fit any more
    }
    if (event === undefined) this.#violation(cursor, "an update without an event");
    else this.#log.sawEvent(cursor, event, this.#by);
    this.#moveTo(cursor);
    const patch = frame.get("patch");
    if (patch === undefined) this.#takeJob(cursor, frame.get("job"));
    else this.#takePatch(cursor, patch);
  }

  #takeJob(cursor: Cursor, job: string | undefined): void {
    this.#job = undefined;
    if (job === undefined) return this.#violation(cursor, "a frame without the job");
    const seen = this.#log.sawJob(cursor, job, this.#by);
    try {
      this.#job = this.#log.parse(seen, job);
    } catch {
      // Told by the log.
    }
  }

  /** What a patch makes of the job must be the job of that cursor, to the byte. */
  #takePatch(cursor: Cursor, patch: string): void {
    this.#log.sawPatch(cursor, patch, this.#by);
    if (!this.#job) return;
    try {
      this.#job = applyPatch(this.#job, JSON.parse(patch) as JobPatch);
      this.#log.sawJob(cursor, JSON.stringify(this.#job), `${this.#by} by patches`);
    } catch {
      this.#job = undefined;
      this.#violation(cursor, "the patch cannot be applied");
    }
  }

  #end(cursor: Cursor, frame: FrameMembers): void {
    const from = this.#cursor;
    this.#delivered.ends += 1;
    this.#ended = true;
    if (from && printCursor(from) !== printCursor(cursor)) {
      this.#violation(cursor, `the end of a viewer at ${printCursor(from)}`);
    }
    const told = parseStatus(parsed(frame, "status"));
    const status = this.#log.stateAt(cursor)?.status;
    if (!told || !isTerminal(told)) this.#violation(cursor, `the end with status ${told}`);
    else if (status !== undefined && status !== told) {
      this.#violation(cursor, `the end with status ${told} of a job that is ${status}`);
    }
  }

  /** What is wrong with where it stands, now that everything is over. */
  finish(): string[] {
    const { head } = this.#log;
    const from = this.#cursor;
    if (this.gaveUp || !head) return [];
    const arrived = from?.epoch === head.epoch && from.revision >= head.revision;
    const ended = this.#ended || this.#polledEnd;
    if (arrived || (from && ended && this.#endedBefore(from, head))) return [];
    const acknowledged = this.#log.acknowledgedIn(head.epoch);
    const seen = from?.epoch === head.epoch ? from.revision : 0;
    const unseen =
      acknowledged > seen
        ? `: the publish acknowledged at ${head.epoch}.${acknowledged} is unseen`
        : "";
    return [this.#log.say(this.#by, from, `never reached the head ${printCursor(head)}${unseen}`)];
  }

  /** Its job was over, and began again in a next run or in another epoch: that is a new watch. */
  #endedBefore(from: Cursor, head: Cursor): boolean {
    if (from.epoch !== head.epoch) return true;
    const [ended, now] = [this.#log.stateAt(from)?.run, this.#log.stateAt(head)?.run];
    return ended === undefined || now === undefined || now > ended;
  }

  #moveTo(cursor: Cursor): void {
    const from = this.#cursor;
    if (from && from.epoch !== cursor.epoch) this.#left.set(from.epoch, from.revision);
    this.#cursor = cursor;
  }

  #on(transport: Transport): void {
    if (transport === this.#transport) return;
    this.#transport = transport;
    this.#by = `${this.viewer} over ${transport}`;
  }

  #violation(cursor: Cursor | null, what: string): void {
    this.#log.report(this.#by, cursor, what);
  }
}

const isPolling = (transport: Transport | undefined): boolean =>
  transport === "poll" || transport === "long-poll";

/** A member's value; undefined when there is none, or none that can be read. */
export function parsed(frame: FrameMembers, key: string): unknown {
  try {
    return JSON.parse(frame.get(key) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}
