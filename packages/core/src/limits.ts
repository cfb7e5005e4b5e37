/** Every bound on memory and size that a host can set. Each one is per process unless it says otherwise. */
export interface Limits {
  /** Viewers of one job. Default 100,000; over it a viewer is told to come back later. */
  viewersPerJob: number;
  /** Viewers of one remote address. Default `Infinity` (off): behind a proxy all viewers share one. */
  viewersPerAddress: number;
  /** Stages of one job. Default 5,000; an event that would add one more is refused. SPEC R13. */
  stages: number;
  /** Jobs that the embedded store keeps. Default 10,000; over it done jobs go first, then silent ones. SPEC R15. */
  jobs: number;
  /** Event text kept for each job, in bytes. Default 1 MiB; what is younger than `stallTimeoutMs` stays up to 8 times that. */
  historyBytes: number;
  /**
   * Memory of all jobs that the embedded store keeps, in bytes. Default 256 MiB; over it history goes before
   * jobs, and what is done before what is live. SPEC R15.
   */
  totalBytes: number;
  /** Bytes in flight to one viewer, above which it waits for its socket to drain. Default 64 KiB. */
  inFlightBytes: number;
  /** Memory that frames in flight hold, of all viewers together: what they share counts once. Default 64 MiB; over it the viewer that waits longest is sent away (4000). */
  pinnedBytes: number;
  /**
   * HTTP requests of the monitor's routes that one HTTP/1.1 connection may have pending (pipelining). Default 32; over it
   * the connection is closed. An HTTP/2 session may have 32 times as many; over that it is answered 429. SPEC D15.
   */
  requestsPerConnection: number;
  /** Jobs that one connection may watch. Default 64. */
  jobsPerConnection: number;
  /** How often one connection may subscribe, in the long run; `jobsPerConnection` at once are always fine. Default 10. */
  subscribesPerSecond: number;
  /** Messages, pings and pongs that one WebSocket may send in the long run; 256 at once are always fine. Default 50; over it the connection is read more slowly, and ended (4429) if it goes on. SPEC D16. */
  messagesPerSecond: number;
  /** Memory of the jobs whose state a publisher keeps although nothing of them waits, about, in bytes: SPEC R18. Default 64 MiB; over it, or over 1,000 jobs, those that were published longest ago are let go. */
  rememberedBytes: number;
  /** Events that wait to be stored. Default 100,000; over it `publish` rejects `overloaded`. */
  queuedEvents: number;
  /** The same in bytes of JSON. Default 64 MiB. */
  queuedBytes: number;
}

export const defaultLimits: Readonly<Limits> = {
  viewersPerJob: 100_000,
  viewersPerAddress: Number.POSITIVE_INFINITY,
  stages: 5_000,
  jobs: 10_000,
  historyBytes: 1024 * 1024,
  totalBytes: 256 * 1024 * 1024,
  inFlightBytes: 64 * 1024,
  pinnedBytes: 64 * 1024 * 1024,
  requestsPerConnection: 32,
  jobsPerConnection: 64,
  subscribesPerSecond: 10,
  messagesPerSecond: 50,
  rememberedBytes: 64 * 1024 * 1024,
  queuedEvents: 100_000,
  queuedBytes: 64 * 1024 * 1024,
};

/** How much longer than `historyBytes` history may grow for readers that are only slow. */
export const HISTORY_STRETCH = 8;

/** The given limits over the defaults. Throws a RangeError for a name or a value that is no limit. */
export function resolveLimits(given: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(given)) {
    if (!(name in defaultLimits)) throw new RangeError(`limits.${name} does not exist.`);
    if (value !== undefined && !(value >= 1)) {
      throw new RangeError(`limits.${name} must be a number of at least 1, not ${value}.`);
    }
  }
  return { ...defaultLimits, ...given };
}
