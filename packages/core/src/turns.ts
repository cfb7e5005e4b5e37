import type { Clock } from "./host.js";

/** What is sent in one turn of the event loop, in bytes, and for how long. SPEC D5. */
const TURN_BYTES = 4 * 1024 * 1024;
const TURN_MS = 10;
/** The clock is looked at this often: a look costs as much as a small write's share of it would save. */
const LOOK_BYTES = 256 * 1024;
/** While others wait, one room has at most this part of a turn. */
const SHARE_BYTES = TURN_BYTES / 4;
/** What waits with `later` has this much of each turn. */
export const LATER_BYTES = 1024 * 1024;
/** A write costs as much as so many bytes, whatever its size: 2,000 small ones fill a turn. */
export const WRITE_BYTES = 2 * 1024;

/**
 * The budget of one turn of the event loop, shared by everything that a monitor does: when it is used up, what
 * remains waits for the next turns, in order, so that sockets and other jobs have theirs in between.
 *
 * Counting is an addition; only every 256 KiB are the clock and the turn looked at. A monitor that does little never
 * notices its turns.
 */
export class Turns {
  readonly #clock: Clock;
  #left = TURN_BYTES;
  #lookAt = TURN_BYTES - LOOK_BYTES;
  /** When its time is over; undefined: its clock does not run yet. */
  #endsAt: number | undefined;
  #over = false;
  readonly #waiting = new Queue<() => void>();
  readonly #later = new Queue<{ bytes: number; task: () => void }>();
  /** The next turn is going to begin. */
  #isArmed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Nothing more is to be begun in this turn. */
  get over(): boolean {
    return this.#over;
  }

  /** Counts what was sent, or work that takes as long as to send so many bytes. */
  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < this.#lookAt) this.#look();
  }

  /**
   * Calls `work` until it says that nothing remains, but only in this turn, and while others wait only for its share
   * of it. Returns whether something remains.
   */
  share(work: () => boolean): boolean {
    const until = this.#left - SHARE_BYTES;
    do {
      if (!work()) return false;
    } while (!this.#over && (this.#left > until || this.#waiting.size === 0));
    return true;
  }

  /** Calls `task` in one of the next turns: those that wait longer come first. `task` must not throw. */
  next(task: () => void): void {
    this.#waiting.push(task);
    this.#arm();
  }

  /**
   * The same for lists and for polls that were put off: they come after everything that is live, and have 1 MiB of
   * each turn, whatever else is done in it.
   *
   * @param bytes what it is going to cost
   */
  later(bytes: number, task: () => void): void {
    this.#later.push({ bytes, task });
    this.#arm();
  }

  #look(): void {
    this.#lookAt = this.#left - LOOK_BYTES;
    const now = this.#clock.monotonic();
    this.#endsAt ??= now + TURN_MS;
    this.#arm();
    if (this.#left <= 0 || now >= this.#endsAt) this.#over = true;
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    setImmediate(() => this.#begin());
  }

  #begin(): void {
    this.#isArmed = false;
    this.#left = TURN_BYTES;
    this.#lookAt = TURN_BYTES - LOOK_BYTES;
    this.#endsAt = undefined;
    this.#over = false;
    try {
      this.#runWaiting();
      this.#runLater();
    } finally {
      // Also when a task has thrown in spite of its promise: the others are not lost.
      if (this.#waiting.size + this.#later.size > 0) this.#arm();
    }
  }

  #runWaiting(): void {
    if (this.#waiting.size === 0) return;
    this.#endsAt = this.#clock.monotonic() + TURN_MS;
    // What they put off comes after those that have not had their turn.
    for (let tasks = this.#waiting.size; tasks > 0; tasks--) {
      this.#waiting.take()?.();
      if (this.#over || this.#left <= 0) return;
    }
  }

  #runLater(): void {
    let left = LATER_BYTES;
    while (left > 0) {
      const next = this.#later.take();
      if (!next) return;
      left -= next.bytes;
      next.task();
    }
  }
}

/** First in, first out. Taking one costs the same however many there are. */
class Queue<T> {
  #items: T[] = [];
  #taken = 0;

  get size(): number {
    return this.#items.length - this.#taken;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  take(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#taken++];
    if (2 * this.#taken >= this.#items.length) {
      this.#items = this.#items.slice(this.#taken);
      this.#taken = 0;
    }
    return item;
  }
}
