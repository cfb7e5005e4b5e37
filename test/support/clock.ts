import type { Clock } from "@org/workflow-monitor";

interface Timer {
  due: number;
  fn: () => void;
}

/** A clock that stands still until it is told to go on. Its wall clock can be set apart from the time that passes. */
export class ManualClock implements Clock {
  readonly #timers = new Set<Timer>();
  #now: number;
  #offset = 0;

  constructor(now = Date.parse("2026-01-01T00:00:00.000Z")) {
    this.#now = now;
  }

  /** Timers that are set. */
  get timers(): number {
    return this.#timers.size;
  }

  // The methods are properties: a host may pass them around without their clock.
  readonly now = (): number => this.#now + this.#offset;
  readonly monotonic = (): number => this.#now;

  /** Corrects the wall clock, as NTP does: no time passes. */
  step(ms: number): void {
    this.#offset += ms;
  }

  readonly setTimeout = (fn: () => void, ms: number): (() => void) => {
    const timer = { due: this.#now + Math.max(0, ms), fn };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** Lets time pass; what falls due is called in order, at its own time. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      let first: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.due <= end && (!first || timer.due < first.due)) first = timer;
      }
      if (!first) break;
      this.#timers.delete(first);
      this.#now = Math.max(this.#now, first.due);
      first.fn();
    }
    this.#now = end;
  }
}

/** The clock of a process that stood still: time has passed, and the timers are late. */
export const lateClock = (clock: ManualClock, late: { by: number }): Clock => ({
  now: () => clock.now() + late.by,
  monotonic: () => clock.monotonic() + late.by,
  setTimeout: clock.setTimeout,
});

/** Lets everything run that is ready to run. */
export async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}

/** What a promise comes to while time passes in steps; fails if it takes more than `steps` of them. */
export async function settle<T>(
  clock: ManualClock,
  promise: Promise<T>,
  { stepMs = 1_000, steps = 50 } = {},
): Promise<T> {
  let settled = false;
  const mark = () => {
    settled = true;
  };
  promise.then(mark, mark);
  for (let step = 0; step < steps; step += 1) {
    await turns();
    if (settled) return promise;
    clock.advance(stepMs);
  }
  throw new Error(`not settled after ${steps} steps of ${stepMs} ms`);
}
