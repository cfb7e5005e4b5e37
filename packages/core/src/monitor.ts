import { type Authorize, createGate } from "./authorize.js";
import { Bodies } from "./bodies.js";
import { createEgress, type Egress, readFrom } from "./egress.js";
import type { WorkflowEngine } from "./engine.js";
import { draining, type WorkflowMonitorError } from "./errors.js";
import type { PublicError, PublishedEvent, WorkflowEvent } from "./events.js";
import { toSnapshot } from "./frames.js";
import { Heartbeats } from "./heartbeats.js";
import { type Clock, type Logger, resolveClock, silentLogger } from "./host.js";
import { InFlight } from "./in-flight.js";
import { createIngest } from "./ingest.js";
import { type Limits, resolveLimits } from "./limits.js";
import { Listeners } from "./listeners.js";
import { Listing } from "./listing.js";
import { memoryStore } from "./memory-store.js";
import type { Frame } from "./protocol.js";
import type { Cursor } from "./revision.js";
import { type LeaveEvent, RoomManager, type ViewerEvent } from "./rooms.js";
import { type RunPlan, run, type Work } from "./run.js";
import type { JobSnapshot } from "./snapshot.js";
import type { JobPage, JobQuery, JobStore } from "./store.js";
import { StoreFaults } from "./store-faults.js";
import { Turns } from "./turns.js";
import { type WatchOptions, watch } from "./watch.js";

export interface WorkflowMonitorOptions {
  /** Who may watch what; required, since nobody gets in by default. `allowAll` is for trying out. */
  authorize: Authorize;
  /** Where the logs live. Default: `memoryStore()`, of this process alone. A store of yours is yours to close. */
  store?: JobStore;
  /** pino's shape. Default: silent, nothing is ever printed. */
  logger?: Logger;
  /**
   * Shapes `job` for viewers that expect another structure, or may not see all of it; pure and synchronous. It applies
   * to everything that viewers get: frames on every transport, polls, rows of the list and `watch`.
   * Viewers of a shaped job learn of its events only that they happened, and when. The host's own
   * view, `get`, `list` and `on("update")`, stays as it is. SPEC R16.
   */
  present?: (job: JobSnapshot) => unknown;
  /** Joins the ETag: change it when `present` changes. [A-Za-z0-9_]. */
  presentVersion?: string;
  /** What viewers learn of an error. Default: its code and message. SPEC R12. */
  redactError?: (error: unknown, at: { jobId: string; stage?: string }) => PublicError;
  /** How long a done job stays readable. Default 3,600,000 (1 h). SPEC R15. */
  retainMs?: number;
  /** How long a job that went silent does. Default 86,400,000 (24 h). SPEC R15. */
  abandonMs?: number;
  /** Default 25,000: less than the 30 s and 60 s at which browsers and proxies cut. */
  heartbeatMs?: number;
  /** How long a frame may take to leave, besides a second for every 16 KiB of it, and how long history stays for slow viewers. Default 30,000. */
  stallTimeoutMs?: number;
  /** How long a room stays after its last viewer. Default 5,000. */
  lingerMs?: number;
  /** How long `close` waits for events to be stored, and over which time viewers are sent away. Default 2,000. */
  drainMs?: number;
  /**
   * Time, for tests: `{ now, monotonic, setTimeout }`. Default: this machine's. A clock without
   * `monotonic` is measured by how far its `now` advances.
   */
  clock?: Partial<Clock>;
  limits?: Partial<Limits>;
}

/** A revision that this process appended. */
export interface UpdateEvent {
  jobId: string;
  cursor: Cursor;
  event: WorkflowEvent;
  job: JobSnapshot;
}

export type MonitorEvents = {
  /** In the process that published, after the store acknowledged; `present` does not apply. */
  update: UpdateEvent;
  join: ViewerEvent;
  leave: LeaveEvent;
  /** An event was refused or shortened, or a job is damaged: at most once a minute for each damaged job. */
  error: WorkflowMonitorError;
};

export interface MonitorStats {
  /** Jobs that this process publishes to. */
  jobs: number;
  rooms: number;
  viewers: { ws: number; sse: number; longPoll: number; watch: number };
  /** Events taken, and events refused, since the start. */
  published: number;
  refused: number;
  /** Revisions sent to viewers after their first snapshot, since the start. */
  delivered: number;
  /** Viewers that wait for their connection to drain. */
  parked: number;
  /** Memory that frames in flight hold, in bytes. */
  pinnedBytes: number;
  /** Memory that the store holds in this process, in bytes as `limits.totalBytes` counts them; 0 for one with a server. */
  storedBytes: number;
}

export interface WorkflowMonitor {
  /** Listens to an engine; the returned function ends that. Nothing is ever thrown into the engine. */
  attach(engine: WorkflowEngine): () => void;
  /**
   * Resolves to the cursor that contains the event, once the store has it. Rejects with a
   * WorkflowMonitorError (`refused`, `overloaded`, `conflict`, `damaged`, `closed`); never throws, and is
   * marked as handled, so that a host that does not await it is not ended by it.
   */
  publish(event: PublishedEvent): Promise<Cursor>;
  /**
   * The job, never older than what this process published; undefined: no such job. The host's own view:
   * asks no `authorize`, and `present` does not apply.
   */
  get(jobId: string): Promise<JobSnapshot | undefined>;
  /**
   * A page of summaries, newest first. `limit` defaults to 50. The last page is the one whose `next` is null.
   * Rejects with `bad_request` for a cursor that is not of this list. The host's own view: asks no `authorize`,
   * and `present` does not apply.
   */
  list(query?: Partial<JobQuery>): Promise<JobPage>;
  /** The job's frames, as a viewer gets them, in the shape of `present`; ends with the job. Asks no `authorize`. */
  watch(jobId: string, options?: WatchOptions): AsyncIterableIterator<Frame>;
  /** Runs plain async code as a job. */
  run<T>(jobId: string, plan: RunPlan, work: Work<T>): Promise<T>;
  on<E extends keyof MonitorEvents>(name: E, listener: (event: MonitorEvents[E]) => unknown): void;
  off<E extends keyof MonitorEvents>(name: E, listener: (event: MonitorEvents[E]) => unknown): void;
  stats(): MonitorStats;
  /**
   * Sends every viewer of every adapter away, to come back elsewhere (1012), and refuses new ones.
   * Who waits for a poll is answered at once; the others are told in portions over `drainMs`, at least
   * 50 at a time. Resolves when all have been told. Idempotent.
   */
  drain(): Promise<void>;
  /**
   * Detaches, stores what waits, drains, and closes the store that it made: in `drainMs` and at most
   * a second more. Idempotent; leaves no timer behind.
   */
  close(): Promise<void>;
  /** What adapters use. */
  readonly egress: Egress;
}

/** Log lines about bad events, at most this many a second. */
const REPORTS_PER_SECOND = 20;

/** Wires the three layers together: ingest → store → egress. */
export function createWorkflowMonitor(options: WorkflowMonitorOptions): WorkflowMonitor {
  const {
    authorize,
    store = memoryStore(memoryOptions(options)),
    logger = silentLogger,
    present,
    presentVersion,
    redactError,
    retainMs = 3_600_000,
    abandonMs = 86_400_000,
    heartbeatMs = 25_000,
    stallTimeoutMs = 30_000,
    lingerMs = 5_000,
    drainMs = 2_000,
  } = options;
  const clock = resolveClock(options.clock);
  if (typeof authorize !== "function") {
    throw new TypeError(
      "createWorkflowMonitor needs authorize: a function, or allowAll to try out.",
    );
  }
  if (presentVersion !== undefined && !/^\w+$/.test(presentVersion)) {
    throw new TypeError("presentVersion must be of letters, digits and _.");
  }
  const durations = { retainMs, abandonMs, heartbeatMs, stallTimeoutMs, lingerMs, drainMs };
  for (const [name, ms] of Object.entries(durations)) {
    const least = name === "heartbeatMs" ? 25 : 0; // the wheel has 25 slots
    if (ms >= least && ms < 2 ** 31) continue;
    throw new RangeError(`${name} must be milliseconds from ${least}, not ${ms}.`);
  }
  const limits = resolveLimits(options.limits);
  const listeners = new Listeners<MonitorEvents>(logger);
  const tell = (error: WorkflowMonitorError) => listeners.tell("error", error);
  const faults = new StoreFaults(logger, clock, tell);
  const reportEvent = createReport(logger, clock, tell);
  const report = (error: WorkflowMonitorError) => {
    if (error.code === "damaged") faults.note(error, error.jobId);
    else reportEvent(error);
  };
  const frames = { heartbeatMs, present };
  const bodies = new Bodies(frames, presentVersion);
  const sent = { delivered: 0 };

  const turns = new Turns(clock);
  const shared = { store, faults, clock, turns, logger, limits };

  const ingest = createIngest({
    ...shared,
    retainMs,
    abandonMs,
    redactError,
    report,
    onRevision(cursor, { event, job }) {
      if (!listeners.has("update")) return;
      const { jobId } = job;
      listeners.tell("update", { jobId, cursor, event, job: toSnapshot(job, cursor) });
    },
  });

  const rooms = new RoomManager({
    ...shared,
    frames,
    bodies,
    lingerMs,
    stallTimeoutMs,
    stats: sent,
    onJoin: (event) => listeners.tell("join", event),
    onLeave: (event) => listeners.tell("leave", event),
  });

  const gate = createGate(authorize, clock, logger);
  const heartbeats = new Heartbeats(clock, heartbeatMs);
  const inFlight = new InFlight({ clock, stallTimeoutMs, limits });
  const listing = new Listing({ store, faults, clock, turns });
  const viewing = { rooms, listing, frames, bodies, gate, heartbeats, inFlight };
  const egress = createEgress({ ...shared, ...viewing });

  const disconnect = store.connection?.((there) => {
    if (rooms.connected(there)) void ingest.verify();
  });

  const attached = new Set<() => void>();
  let drained: Promise<void> | undefined;
  let closing: Promise<void> | undefined;

  const publish = (event: PublishedEvent): Promise<Cursor> => ingest.publish(event);

  async function get(jobId: string): Promise<JobSnapshot | undefined> {
    try {
      const { job, cursor } = await readFrom(store, faults, jobId);
      return toSnapshot(job, cursor);
    } catch (thrown) {
      if ((thrown as WorkflowMonitorError).code === "unknown_job") return undefined;
      throw thrown;
    }
  }

  /** Also one whose time to read is over: its run is not to be repeated. SPEC R15. */
  const former = async (jobId: string) => (await store.read(jobId))?.job;

  function drain(spreadMs = drainMs): Promise<void> {
    gate.giveUp(draining());
    if (drained) return drained;
    let begun!: (whole: Promise<void>) => void;
    // Before anybody is told: a listener on `leave` may drain, too.
    drained = new Promise((resolve) => {
      begun = resolve;
    });
    const told = rooms.drain(spreadMs).then(() => {
      // Connections that watch nothing.
      for (const connection of heartbeats.connections()) connection.goAway(draining());
    });
    begun(told);
    return drained;
  }

  async function close(): Promise<void> {
    for (const detach of attached) detach();
    const by = clock.monotonic() + drainMs;
    await within(ingest.finish(), drainMs);
    await drain(Math.max(0, by - clock.monotonic()));
    ingest.close();
    await within(ingest.finish(), 1_000);
    disconnect?.();
    if (!options.store) await store.close();
  }

  /** Waits, but not for ever. */
  function within(work: Promise<void>, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = clock.setTimeout(resolve, ms);
      void work.then(resolve).finally(cancel);
    });
  }

  return {
    egress,
    publish,
    get,

    attach(engine) {
      const plan = (event: unknown) => ingest.accept("plan", event);
      const job = (event: unknown) => ingest.accept("job", event);
      const stage = (event: unknown) => ingest.accept("stage", event);
      engine.attached?.({ get });
      engine.on("plan", plan);
      engine.on("job", job);
      engine.on("stage", stage);
      const detach = () => {
        if (!attached.delete(detach)) return;
        engine.off("plan", plan);
        engine.off("job", job);
        engine.off("stage", stage);
      };
      attached.add(detach);
      return detach;
    },

    list: (query = {}) =>
      listing.page(
        { limit: 50, ...query },
        () => true,
        () => false,
      ),
    watch: (jobId, watchOptions = {}) => watch(rooms, jobId, watchOptions, limits.inFlightBytes),
    run: (jobId, plan, work) => run({ publish, former, clock }, jobId, plan, work),
    on: (name, listener) => listeners.on(name, listener),
    off: (name, listener) => listeners.off(name, listener),

    stats() {
      const { viewers, ...counts } = rooms.stats;
      const { ws, sse, watch, "long-poll": longPoll } = viewers;
      const { pinnedBytes } = inFlight;
      return {
        ...ingest.stats,
        ...counts,
        ...sent,
        pinnedBytes,
        storedBytes: store.storedBytes?.() ?? 0,
        viewers: { ws, sse, longPoll, watch },
      };
    },

    drain: () => drain(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

function memoryOptions({ clock, limits, logger, stallTimeoutMs }: WorkflowMonitorOptions) {
  const { jobs, historyBytes, totalBytes } = resolveLimits(limits);
  return {
    jobs,
    historyBytes,
    totalBytes,
    ...(logger && { logger }),
    ...(stallTimeoutMs !== undefined && { keepMs: stallTimeoutMs }),
    ...(clock && { clock }),
  };
}

/** Every bad event is told to `error` listeners; the log gets a bounded number of lines. */
function createReport(logger: Logger, clock: Clock, tell: (error: WorkflowMonitorError) => void) {
  let second = 0;
  let lines = 0;
  return (error: WorkflowMonitorError): void => {
    tell(error);
    const now = Math.floor(clock.monotonic() / 1_000);
    if (now !== second) {
      if (lines > REPORTS_PER_SECOND) {
        logger.warn({ count: lines - REPORTS_PER_SECOND }, "more events were refused or shortened");
      }
      second = now;
      lines = 0;
    }
    lines += 1;
    if (lines > REPORTS_PER_SECOND) return;
    logger.warn(
      { jobId: error.jobId, code: error.code, reason: error.message },
      "event refused or shortened",
    );
  };
}
