import {
  type Codec,
  type Cursor,
  type EndReason,
  type Frame,
  type Member,
  parseCursor,
  printCursor,
  type Seat,
  type Service,
  type WorkflowMonitor,
} from "@org/workflow-monitor";
import { createCodec, watchRequest } from "./member.js";

interface OnlookerOptions {
  mode?: Service;
  codec?: Codec;
  after?: Cursor;
}

/** One of thousands: checks what it gets as it comes, and keeps only how far it is. */
export class Onlooker implements Member {
  readonly codec: Codec;
  readonly mode: Service;
  writable = true;
  seat: Seat | undefined;
  /** The head that it was shown last, and how many events: in all, and after its first frame. */
  cursor: Cursor | undefined;
  shown = 0;
  delivered = 0;
  writes = 0;
  /** Snapshots instead of updates. */
  snapshots = 0;
  /** The last frame was `end`, or `error`. */
  over: "end" | "error" | undefined;
  readonly ends: EndReason[] = [];
  readonly #crowd: Crowd;
  #gone = false;

  constructor(crowd: Crowd, { mode = "full", codec = crowd.codec, after }: OnlookerOptions) {
    this.#crowd = crowd;
    this.mode = mode;
    this.codec = codec;
    this.cursor = after;
  }

  write(parts: readonly Uint8Array[]): void {
    this.writes += 1;
    this.#crowd.writes += 1;
    if (this.#gone) this.#fault("a write to one that has left");
    if (!this.writable && !this.#crowd.mayOverfill) this.#fault("a write to one that is full");
    for (const frame of this.#crowd.decode(parts)) this.#take(frame);
  }

  end(reason: EndReason): void {
    this.ends.push(reason);
    if (this.ends.length > 1) this.#fault("a second end");
  }

  /** It can take bytes again. */
  drain(): void {
    this.writable = true;
    this.seat?.resume();
  }

  leave(): void {
    this.#gone = true;
    this.seat?.leave({ code: 1000, reason: "bye" });
  }

  #take(frame: Frame): void {
    if (this.over) this.#fault(`${frame.type} after ${this.over}`);
    if (frame.type === "error") this.over = "error";
    if (!("cursor" in frame)) return;
    const at = parseCursor(frame.cursor) as Cursor;
    const events =
      frame.type === "snapshot" ? frame.events.length : frame.type === "update" ? 1 : 0;
    const from = at.revision - events;
    const isFirst = this.cursor === undefined || ("resumed" in frame && !frame.resumed);
    if (isFirst ? frame.type !== "snapshot" : this.cursor?.revision !== from) {
      this.#fault(`${frame.type} ${frame.cursor} of ${events} events`);
    }
    if (frame.type === "end") this.over = "end";
    if (frame.type === "snapshot" && frame.behind) this.snapshots += 1;
    this.shown += events;
    if (this.writes > 1) this.delivered += events;
    this.cursor = at;
  }

  #fault(what: string): void {
    const at = this.cursor ? printCursor(this.cursor) : "the beginning";
    this.#crowd.faults.push(`${what} at ${at}`);
  }
}

/** Members by the thousand, and what was wrong with what they got. */
export class Crowd {
  readonly codec = createCodec();
  readonly all: Onlooker[] = [];
  /** What was lost, came twice, or came too late. */
  readonly faults: string[] = [];
  /** Writes to all of them so far. */
  writes = 0;
  /** A last word is written to full ones, too. */
  mayOverfill = false;
  readonly #decoded = new WeakMap<object, Frame[]>();
  /** The text of each head: the same for everybody. */
  readonly #texts = new Map<string, string>();

  async join(
    monitor: WorkflowMonitor,
    jobId: string,
    options: OnlookerOptions = {},
  ): Promise<Onlooker> {
    const onlooker = new Onlooker(this, options);
    this.all.push(onlooker);
    const request = watchRequest(jobId);
    onlooker.seat = await monitor.egress.join(request, onlooker, options.after ?? null);
    return onlooker;
  }

  async joinMany(
    monitor: WorkflowMonitor,
    jobId: string,
    count: number,
    options: OnlookerOptions = {},
  ): Promise<Onlooker[]> {
    return Promise.all(Array.from({ length: count }, () => this.join(monitor, jobId, options)));
  }

  /** The frames of a write: lines of JSON. Read once, however many get the same bytes. */
  decode(parts: readonly Uint8Array[]): Frame[] {
    const [only] = parts;
    const key = parts.length === 1 && only ? only : parts;
    let frames = this.#decoded.get(key);
    if (!frames) {
      const lines = Buffer.concat(parts).toString().trimEnd().split("\n");
      frames = lines.map((line) => JSON.parse(line) as Frame);
      for (const frame of frames) this.#compare(frame);
      this.#decoded.set(key, frames);
    }
    return frames;
  }

  #compare(frame: Frame): void {
    if (!("job" in frame) || !frame.job) return;
    const text = JSON.stringify(frame.job);
    const known = this.#texts.get(frame.cursor) ?? text;
    if (known !== text) this.faults.push(`another text at ${frame.cursor}`);
    this.#texts.set(frame.cursor, known);
  }
}

/** Counts the writes in each turn of the event loop, until it is stopped. */
export function countTurns(crowd: Crowd): { perTurn: number[]; stop(): void } {
  const perTurn: number[] = [];
  let before = crowd.writes;
  let stopped = false;
  const look = () => {
    perTurn.push(crowd.writes - before);
    before = crowd.writes;
    if (!stopped) setImmediate(look);
  };
  setImmediate(look);
  return {
    perTurn,
    stop() {
      stopped = true;
      perTurn.push(crowd.writes - before);
    },
  };
}
