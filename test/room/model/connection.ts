import type {
  Cursor,
  EndReason,
  Frame,
  Member,
  Seat,
  Service,
  Transport,
  WorkflowEvent,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import type { ModelCodec } from "./codecs.js";
import type { Line } from "./line.js";
import { cursorOf } from "./log.js";
import { JOB, type Model, type ModelNode, shownEvent } from "./model.js";

type SnapshotFrame = Extract<Frame, { type: "snapshot" }>;
type UpdateFrame = Extract<Frame, { type: "update" }>;

const VANISHED_MS = 60_000;
const BIG_BYTES = 64 * 1024;
const GONE: EndReason = { code: 1001, reason: "gone" };

/** Somebody who watches: one cursor, over many connections. */
export interface Viewer {
  readonly name: string;
  /** What it has seen. */
  cursor: Cursor | null;
  connection: Connection | undefined;
}

export interface ConnectionOptions {
  viewer: Viewer;
  node: ModelNode;
  /** The cursor that it brings. */
  after: Cursor | null;
  /** It brings a cursor that nobody gave it. */
  madeUp: boolean;
  /** Nothing older may be its first. */
  atLeast?: Cursor | undefined;
  mode: Service;
  transport: Transport;
  codec: ModelCodec;
}

/** A member in memory: takes what a room gives it, and holds it against the model. */
export class Connection implements Member {
  readonly codec: ModelCodec;
  readonly mode: Service;
  readonly transport: Transport;
  readonly viewer: Viewer;
  readonly node: ModelNode;
  readonly startedAt: number;
  line!: Line;
  seat: Seat | undefined;
  /** Where it stands: what it brought, then what it was sent. */
  cursor: Cursor | null;
  /** It stood at the head, or was sent something. */
  live = false;
  /** The job was over when it came, and it could not take anything. */
  atTheEnd = false;
  /** In the middle of its next write it leaves, and takes these along. */
  doomed: readonly Connection[] | undefined;
  uncounted = false;
  ended: EndReason | undefined;
  left = false;
  refused = false;
  frames = 0;
  /** Revisions that it was sent after its first snapshot. */
  delivered = 0;
  readonly #model: Model;
  readonly #options: ConnectionOptions;
  #last: Frame | undefined;
  #paused = false;

  constructor(model: Model, options: ConnectionOptions) {
    this.#model = model;
    this.#options = options;
    this.codec = options.codec;
    this.mode = options.mode;
    this.transport = options.transport;
    this.viewer = options.viewer;
    this.node = options.node;
    this.cursor = options.after;
    this.startedAt = model.log.next();
    options.viewer.connection = this;
    model.connections.push(this);
  }

  /** It is about to be seated, or is, and nobody ended it. */
  get open(): boolean {
    return !this.ended && !this.left && !this.refused;
  }

  get polling(): boolean {
    return this.mode === "poll" || this.mode === "long-poll";
  }

  get writable(): boolean {
    return this.open && this.line.writable;
  }

  /** It came when the job was over, and could not take the answer: it may wait in a room of its own. */
  get waitsForAnswer(): boolean {
    return this.open && this.atTheEnd && this.frames === 0;
  }

  /** It must be brought to the head: nothing holds it back. */
  get flowing(): boolean {
    return this.open && this.seat !== undefined && !this.line.paused;
  }

  toString(): string {
    return `${this.viewer.name} (${this.mode} on node ${this.node.index})`;
  }

  // ── what its owner does ────────────────────────────────────────────────────────────────────────

  pause(): void {
    this.#paused = true;
    this.line.pause();
  }

  resume(): void {
    this.line.resume();
    if (this.open && this.seat) this.live = true;
  }

  /** The connection is gone. */
  cut(): void {
    if (!this.open) return;
    this.left = true;
    this.node.leftAt = this.#model.now();
    this.seat?.leave(GONE);
    this.line.close();
  }

  /** Another takes it along, in the middle of a flush: whether that was delivered, its seat need not know. */
  takenAlong(): void {
    this.uncounted ||= this.open;
    this.cut();
  }

  /** Its line gave it up, since nothing left it. */
  gaveUp(code: number): void {
    const since = this.line.waitsSince ?? this.#model.now();
    if (code !== 4000 || this.#model.now() - since < this.#model.config.stallTimeoutMs) {
      this.#fail(`was given up with ${code} after ${this.#model.now() - since} ms`);
    }
    this.#model.saw("stalled");
    this.cut();
  }

  seated(seat: Seat): void {
    this.seat = seat;
    if (this.left) {
      this.node.leftAt = this.#model.now();
      return seat.leave(GONE);
    }
    if (this.ended) return;
    if (this.line.writable) this.live = true;
    else this.atTheEnd = this.#model.log.wasDoneSince(this.startedAt);
    if (this.live && this.frames === 0) this.#model.saw("a long-poll waits");
    this.line.seated(seat);
  }

  refuse({ code, message }: WorkflowMonitorError): void {
    this.refused = true;
    this.node.leftAt = this.#model.now();
    this.#model.saw(`refused: ${code}`);
    if (!this.#mayBeRefused(code)) this.#fail(`was refused: ${code}, ${message}`);
  }

  #mayBeRefused(code: string): boolean {
    const absent = !this.#model.log.presentSince(this.startedAt);
    if (code === "unknown_job") return absent;
    const away = this.node.away || this.node.awayAt >= this.startedAt;
    if (code === "unavailable") return away || (absent && this.#options.after !== null);
    return code === "draining" && this.node.closing;
  }

  // ── what its room does ─────────────────────────────────────────────────────────────────────────

  write(parts: readonly Uint8Array[]): void {
    if (this.left && !this.seat) return; // gone before it was seated
    if (!this.open) this.#fail("was written to after its end");
    const { writable } = this;
    this.line.write(parts);
    const before = this.delivered;
    try {
      for (const text of this.codec.decode(Buffer.concat(parts))) this.#take(text, writable);
    } catch (thrown) {
      this.#fail(`cannot read what it was sent: ${(thrown as Error).message}`);
    }
    if (!this.doomed) return;
    this.delivered = before; // nobody knows what arrived
    this.#model.saw("gone in the middle of a write");
    this.cut();
    for (const other of this.doomed) other.takenAlong();
  }

  end(reason: EndReason): void {
    if (this.left && !this.seat) return; // gone before it was seated
    if (this.ended) this.#fail("was ended twice");
    if (this.left) this.#fail("was ended after it left");
    this.ended = reason;
    this.node.leftAt = this.#model.now();
    this.line.close();
    this.#model.saw(`ended: ${reason.code}${this.polling ? " (poll)" : ""}`);
    if (!this.#mayEnd(reason)) this.#fail(`was ended with ${reason.code}`);
  }

  #mayEnd({ code, error }: EndReason): boolean {
    const last = this.#last?.type;
    if (code === 1000) {
      if (last === "end") return true;
      if (!this.polling) return false;
      // Answered, or there is nothing to wait for.
      return (
        last === "snapshot" || (this.mode === "long-poll" && this.#model.log.endsAt(this.cursor))
      );
    }
    if (!error || (this.polling ? last !== undefined : last !== "error")) return false;
    if (code === 4404) return this.#model.log.missedMs >= VANISHED_MS;
    if (code === 1011) return this.node.threwAt >= this.startedAt;
    return code === 1012 && this.node.closing && (this.polling || !this.#pollsWait());
  }

  /** Who polls is answered first when a node goes. */
  #pollsWait(): boolean {
    return this.#model
      .open()
      .some(({ polling, seat, node }) => polling && seat && node === this.node);
  }

  #take(text: string, writable: boolean): void {
    const frame = JSON.parse(text) as Frame;
    if (frame.type === "error" && !this.#last) {
      this.#model.history.joined({ viewer: this.viewer.name, jobId: JOB });
    }
    if (frame.type === "snapshot") this.#snapshot(frame, text);
    else if (frame.type === "update") this.#update(frame);
    else if (frame.type === "end" && this.#last?.type === "snapshot" && this.frames > 1) {
      this.#model.saw("the end after a catch-up");
    }
    const data = frame.type === "snapshot" || frame.type === "update";
    if (data && !writable) this.#fail(`was sent ${frame.type} although it was not writable`);
    if (this.polling && (!data || this.frames > 0)) this.#fail(`was sent ${frame.type} for a poll`);
    const { name } = this.viewer;
    this.#model.history.observe({ viewer: name, transport: this.transport, text });
    this.#last = frame;
    if (!data) return;
    this.frames += 1;
    this.cursor = cursorOf(frame.cursor);
    this.viewer.cursor = this.cursor;
    this.live = true;
  }

  #snapshot(frame: SnapshotFrame, text: string): void {
    const head = cursorOf(frame.cursor);
    const from = this.cursor;
    const behind = this.frames > 0;
    const same = from?.epoch === head.epoch;
    if (this.frames === 0) this.#begin(frame, head);
    if ((frame.behind === true) !== behind) this.#fail(`was sent behind: ${frame.behind}`);
    if (same && from.revision <= head.revision && !frame.resumed) {
      const { historyBytes, keepMs, stallTimeoutMs } = this.#model.config;
      const keep = Math.min(keepMs, stallTimeoutMs);
      if (this.#model.log.mustReach(from, head, historyBytes, keep)) {
        this.#fail(`was not resumed from ${from.revision} to ${head.revision}`);
      }
    }
    const base = head.revision - frame.events.length;
    for (const [at, event] of frame.events.entries()) {
      this.#checkEvent(event, head.epoch, base + at + 1);
    }
    if (same && (behind || this.mode === "long-poll")) {
      this.delivered += Math.max(0, head.revision - from.revision);
    }
    this.#countSnapshot(frame, from, head, text.length);
  }

  #begin(frame: SnapshotFrame, head: Cursor): void {
    // The history learns what cursor it brought: one that nobody gave it may come true meanwhile, or not.
    const { after, madeUp, viewer, atLeast } = this.#options;
    if (atLeast?.epoch === head.epoch && head.revision < atLeast.revision) {
      this.#fail("was shown what was old before it came");
    }
    const ahead = after?.epoch === head.epoch && after.revision > head.revision;
    const vain = madeUp && (ahead || !frame.resumed);
    this.#model.history.joined({ viewer: viewer.name, jobId: JOB, after: vain ? null : after });
  }

  #update(frame: UpdateFrame): void {
    const { epoch, revision } = cursorOf(frame.cursor);
    this.#checkEvent(frame.event, epoch, revision);
    const patched = this.mode === "delta" && !this.#model.config.present;
    if (patched ? !frame.patch || frame.job : !frame.job || frame.patch) {
      this.#fail("was sent an update of the other mode");
    }
    this.delivered += 1;
    this.#model.saw(`updates: ${patched ? "delta" : "full"}`);
  }

  #checkEvent(event: unknown, epoch: string, revision: number): void {
    const known = this.#model.log.eventAt({ epoch, revision });
    const shown = known && shownEvent(this.#model.config, JSON.parse(known) as WorkflowEvent);
    if (JSON.stringify(event) === JSON.stringify(shown)) return;
    this.#fail(`was sent another event ${epoch}.${revision} than the log has`);
  }

  #countSnapshot(frame: SnapshotFrame, from: Cursor | null, head: Cursor, bytes: number): void {
    const saw = (what: string) => this.#model.saw(what);
    const same = from?.epoch === head.epoch;
    if (this.mode === "long-poll" && this.seat) saw("a long-poll was answered later");
    if (this.frames > 0) {
      if (frame.resumed) saw(this.#paused ? "caught up from history" : "caught up, never paused");
      else if (same) saw("caught up beyond history");
      else saw("caught up with another epoch");
      if (bytes > BIG_BYTES) saw("caught up while big");
      if (frame.done) saw("caught up with the end");
    } else if (frame.resumed) saw(frame.events.length > 0 ? "resumed" : "resumed at the head");
    else if (!from) saw("joined without a cursor");
    else if (!same) saw("joined with a cursor of another epoch");
    else if (from.revision > head.revision) saw("joined with a cursor ahead of the head");
    else saw("joined beyond history");
  }

  #fail(what: string): void {
    this.#model.fail(`${this} ${what}`);
  }
}
