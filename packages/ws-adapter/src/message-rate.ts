import type { Clock } from "@org/workflow-monitor";

/** So many messages may come at once. */
const AT_ONCE = 256;
/** So many more may come before it is noticed that the connection is not read any more: one read holds many. */
const MOST_MORE = 512;
/** A connection that is above its rate for so long goes on and on. */
const MOST_OVER_MS = 60_000;

/**
 * How many messages one connection may send: the generic cell rate algorithm (ITU-T I.371), whose state is the time by
 * which the messages so far are paid for. SPEC D16.
 */
export class MessageRate {
  readonly #clock: Clock;
  readonly #eachMs: number;
  #paidBy = 0;
  #overSince: number | undefined;

  /** @param perSecond in the long run */
  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#eachMs = 1_000 / perSecond;
  }

  /**
   * Counts a message. Returns for how long nothing more is to be read, in milliseconds; 0 within the rate,
   * Infinity for a connection that is to be ended.
   */
  count(): number {
    const now = this.#clock.monotonic();
    if (this.#paidBy <= now) {
      this.#paidBy = now;
      this.#overSince = undefined;
    }
    this.#paidBy += this.#eachMs;
    const pauseMs = this.#paidBy - now - AT_ONCE * this.#eachMs;
    if (pauseMs <= 0) return 0;
    this.#overSince ??= now;
    const goesOn = pauseMs > MOST_MORE * this.#eachMs || now - this.#overSince > MOST_OVER_MS;
    return goesOn ? Number.POSITIVE_INFINITY : pauseMs;
  }
}
