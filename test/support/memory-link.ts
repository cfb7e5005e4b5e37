import type {
  Codec,
  Cursor,
  EndReason,
  Member,
  Mode,
  Seat,
  WorkflowMonitor,
} from "@org/workflow-monitor";
import { createCodec, watchRequest } from "./member.js";

export interface LinkOptions {
  mode?: Mode;
  /** One whose frames are lines. Default: one that all links share. */
  codec?: Codec;
  /** Bytes under way from which on the member is not writable, until none are. Default 64 KiB. */
  capacity?: number;
}

const lines = createCodec();

/**
 * A connection without sockets: what the room writes to its member is under way until the test
 * delivers it.
 */
export class MemoryLink implements Member {
  readonly codec: Codec;
  readonly mode: Mode;
  /** The adapter's part: it hears of drains and of the cut. */
  seat: Seat | undefined;
  readonly #capacity: number;
  /** Written and not delivered. */
  #underWay: Buffer = Buffer.alloc(0);
  /** Delivered, and not yet a whole line. */
  #incomplete: Buffer = Buffer.alloc(0);
  #full = false;
  #paused = false;
  #swallowing = false;
  #cut = false;
  #ended: EndReason | undefined;

  constructor({ mode = "full", codec = lines, capacity = 64 * 1024 }: LinkOptions = {}) {
    this.mode = mode;
    this.codec = codec;
    this.#capacity = capacity;
  }

  // ── what the room sees ─────────────────────────────────────────────────────────────────────────

  get writable(): boolean {
    return !this.#full && !this.#closing;
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.#closing) return;
    this.#underWay = Buffer.concat([this.#underWay, ...parts]);
    this.#full ||= this.#underWay.length >= this.#capacity;
  }

  end(reason: EndReason): void {
    this.#ended ??= reason;
  }

  // ── what the test does ─────────────────────────────────────────────────────────────────────────

  /** Bytes under way. */
  get underWay(): number {
    return this.#underWay.length;
  }

  /** Why the room ended the watch, once everything before that is delivered. */
  get ended(): EndReason | undefined {
    return this.underWay === 0 ? this.#ended : undefined;
  }

  /**
   * Delivers up to `bytes`, by default all there are, those that the drain brings not among them.
   * Returns the texts of the frames that are complete now.
   */
  deliver(bytes = this.underWay): string[] {
    if (this.#paused) return [];
    const delivered = this.#underWay.subarray(0, bytes);
    this.#underWay = this.#underWay.subarray(bytes);
    const texts = this.#swallowing ? [] : this.#complete(delivered);
    if (this.#full && this.underWay === 0) {
      this.#full = false;
      this.seat?.resume();
    }
    return texts;
  }

  /** The viewer stops reading. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  /** From now on, what is delivered arrives nowhere. */
  blackHole(): void {
    this.#swallowing = true;
  }

  /** The connection breaks: what is under way is lost, and the member leaves. */
  cut(): void {
    this.#cut = true;
    this.#underWay = Buffer.alloc(0);
    this.#incomplete = Buffer.alloc(0);
    this.seat?.leave({ code: 1006, reason: "cut" });
  }

  get #closing(): boolean {
    return this.#cut || this.#ended !== undefined;
  }

  #complete(delivered: Buffer): string[] {
    const bytes = Buffer.concat([this.#incomplete, delivered]);
    const end = bytes.lastIndexOf("\n") + 1;
    this.#incomplete = bytes.subarray(end);
    return bytes.toString("utf8", 0, end).split("\n").slice(0, -1);
  }
}

/** Seats a new link in a job's room, as an adapter does. */
export async function joinLink(
  monitor: WorkflowMonitor,
  jobId: string,
  { after, ...options }: LinkOptions & { after?: Cursor } = {},
): Promise<MemoryLink> {
  const link = new MemoryLink(options);
  link.seat = await monitor.egress.join(watchRequest(jobId), link, after ?? null);
  return link;
}
