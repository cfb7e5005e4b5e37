/** What the host lends: its logger and its clock. */

type LogMethod = (context: Record<string, unknown>, message: string) => void;

/** pino's shape, so that Fastify's `app.log` fits. */
export interface Logger {
  debug: LogMethod;
  info: LogMethod;
  warn: LogMethod;
  error: LogMethod;
}

/**
 * Time, as two clocks: one for timestamps that people read, one for durations. Every duration, rate and
 * deadline of these packages is measured with `monotonic`, so that a wall clock that is corrected (NTP,
 * a virtual machine that resumes) neither prolongs nor ends anything. SPEC R19.
 */
export interface Clock {
  /** The wall clock: milliseconds since 1970. May jump in both directions. */
  now(): number;
  /** Milliseconds since some moment. Never goes back. */
  monotonic(): number;
  /** Calls `fn` once after `ms`; the returned function takes it back. Must not keep the process alive. */
  setTimeout(fn: () => void, ms: number): () => void;
}

/** The clock of this machine. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  setTimeout(fn, ms) {
    const timer = setTimeout(fn, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/**
 * The clock of a host, completed: a part that it leaves out is the machine's, except that `monotonic` follows
 * the host's own `now`.
 */
export function resolveClock(given: Partial<Clock> = {}): Clock {
  const { now, monotonic, setTimeout } = systemClock;
  return {
    // Called on their clock, which may be an instance of a class.
    now: given.now ? () => (given as Clock).now() : now,
    monotonic: given.monotonic
      ? () => (given as Clock).monotonic()
      : given.now
        ? advancesOf(given.now.bind(given))
        : monotonic,
    setTimeout: given.setTimeout ? (fn, ms) => (given as Clock).setTimeout(fn, ms) : setTimeout,
  };
}

/** A monotonic clock from a wall clock: it stands still where that goes back. */
function advancesOf(now: () => number): () => number {
  let last = now();
  let passed = 0;
  return () => {
    const current = now();
    passed += Math.max(0, current - last);
    last = current;
    return passed;
  };
}

/** Does some work for each of many, `atOnce` at a time. The work must not reject. */
export async function eachOf<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<unknown> | undefined,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++] as T);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

const nothing = () => {};

/** The default logger: nothing is ever printed. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
};
