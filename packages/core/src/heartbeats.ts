import type { WorkflowMonitorError } from "./errors.js";
import type { Clock } from "./host.js";
import { LEAST_BYTES_PER_MS } from "./in-flight.js";

/** A connection that stays: it wants a beat every `heartbeatMs`, and to know when this node goes. */
export interface Beating {
  /** @param late our own event loop was stalled: silence is not the peer's fault */
  beat(late: boolean): void;
  /** This node goes: say so and close, unless that has happened. */
  goAway(error: WorkflowMonitorError): void;
}

const SLOTS = 25;

/** One timing wheel for all connections of a monitor: their beats are spread, and there is one timer. */
export class Heartbeats {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots: Set<Beating>[] = Array.from({ length: SLOTS }, () => new Set());
  #size = 0;
  #next = 0;
  #at = 0;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, heartbeatMs: number) {
    this.#clock = clock;
    this.#tickMs = heartbeatMs / SLOTS;
  }

  /** Returns the slot, which `remove` needs. */
  add(connection: Beating): number {
    const slot = this.#next;
    this.#next = (slot + 1) % SLOTS;
    this.#slots[slot]?.add(connection);
    this.#size += 1;
    if (!this.#cancel) this.#schedule();
    return slot;
  }

  /** Does nothing the second time. */
  remove(connection: Beating, slot: number): void {
    if (this.#slots[slot]?.delete(connection)) this.#size -= 1;
    if (this.#size > 0) return;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** How many beats a line as slow as it may be takes for so many bytes. SPEC D8. */
  beatsFor(bytes: number): number {
    return bytes / (this.#tickMs * SLOTS * LEAST_BYTES_PER_MS);
  }

  /** Every connection that has not been removed. */
  connections(): Beating[] {
    return this.#slots.flatMap((slot) => [...slot]);
  }

  #schedule(): void {
    const due = this.#clock.monotonic() + this.#tickMs;
    this.#cancel = this.#clock.setTimeout(() => {
      const late = this.#clock.monotonic() - due > this.#tickMs;
      this.#schedule();
      const slot = this.#slots[this.#at] as Set<Beating>;
      this.#at = (this.#at + 1) % SLOTS;
      for (const connection of slot) connection.beat(late);
    }, this.#tickMs);
  }
}
