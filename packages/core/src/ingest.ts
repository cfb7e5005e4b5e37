import { closedError, toMonitorError, WorkflowMonitorError } from "./errors.js";
import type { PublicError } from "./events.js";
import { eachOf } from "./host.js";
import { Lane, type LaneContext, type Settle } from "./lane.js";
import { type NormaliseContext, normalise } from "./normalise.js";
import type { Cursor } from "./revision.js";

/**
 * From engines to the store: events are normalised where they are emitted, wait in one queue a job
 * (first in, first out), are folded into the job's state and appended in batches.
 */
export interface Ingest {
  /** Takes an event with its `type`; resolves to the cursor that contains it. Never throws; rejects with a WorkflowMonitorError. */
  publish(input: unknown): Promise<Cursor>;
  /** Takes an event whose sender does not wait: what is wrong with it goes to `report`. Never throws. */
  accept(type: "plan" | "job" | "stage", input: unknown): void;
  /**
   * The store was away, and may have lost what it acknowledged: each job's state that is held here is
   * compared with it, and brought back; what waits for it goes on at once. Resolves when those that were idle are done.
   */
  verify(): Promise<void>;
  /** Refuses new events with `closed`; resolves when nothing waits any more. */
  finish(): Promise<void>;
  /** Rejects what still waits with `closed`. */
  close(): void;
  /** Jobs whose state is held, events taken and events refused since the start. */
  readonly stats: { jobs: number; published: number; refused: number };
}

export interface IngestOptions extends Omit<LaneContext, "closing" | "sleepers"> {
  redactError?:
    | ((error: unknown, at: { jobId: string; stage?: string }) => PublicError)
    | undefined;
  /** Hears of each event that was refused or shortened. */
  report(error: WorkflowMonitorError): void;
}

/** Jobs whose state is kept although nothing waits: their next event need not read the store, and what it loses is brought back. */
const IDLE_LANES = 1_000;
const VERIFIED_AT_ONCE = 16;

export function createIngest(options: IngestOptions): Ingest {
  const { clock, limits, report } = options;
  const busy = new Map<string, Lane>();
  const idle = new Map<string, Lane>(); // in order of their last event
  let idleBytes = 0;
  let published = 0;
  let refused = 0;
  let queued = 0;
  let finishing = false;
  const closing = new AbortController();
  const sleepers = new Set<() => void>();
  const context: LaneContext = { ...options, closing: closing.signal, sleepers };
  let queuedBytes = 0;
  let idleWaiters: (() => void)[] = [];

  /** `type` null: the event says it itself. */
  function take(type: string | null, input: unknown, settle: Settle): void {
    if (finishing) return settle(closedError());
    let normalised: ReturnType<typeof normalise>;
    try {
      const normalising: NormaliseContext = {
        now: clock.now(),
        maxStages: limits.stages,
        redactError: options.redactError,
      };
      normalised = normalise(
        type ?? (input as { type?: unknown } | null)?.type,
        input,
        normalising,
      );
    } catch (thrown) {
      return settle(toMonitorError(thrown, "refused", "The event could not be read."));
    }
    const { jobId, event, text, notices } = normalised;
    if (queued >= limits.queuedEvents || queuedBytes + text.length > limits.queuedBytes) {
      const message = "Too many events wait to be stored: publish slower, or try again later.";
      return settle(new WorkflowMonitorError("overloaded", message, { jobId }));
    }
    queued += 1;
    queuedBytes += text.length;
    const done = (outcome: Cursor | WorkflowMonitorError) => {
      queued -= 1;
      queuedBytes -= text.length;
      if (notices.length > 0 && !(outcome instanceof Error)) {
        report(new WorkflowMonitorError("shortened", notices.join(" "), { jobId }));
      }
      settle(outcome);
    };
    const lane = busy.get(jobId) ?? idle.get(jobId) ?? new Lane(jobId, context, rest);
    lane.queue.push({ event, text, settle: done });
    if (!busy.has(jobId)) void begin(lane);
  }

  function begin(lane: Lane): Promise<void> {
    if (idle.delete(lane.jobId)) idleBytes -= lane.bytes;
    busy.set(lane.jobId, lane);
    return lane.run();
  }

  /** An idle lane does not change, so that it takes what it took. */
  function keep(lane: Lane): void {
    idle.set(lane.jobId, lane);
    idleBytes += lane.bytes;
    for (const [jobId, oldest] of idle) {
      if (idle.size <= IDLE_LANES && idleBytes <= limits.rememberedBytes) return;
      idle.delete(jobId);
      idleBytes -= oldest.bytes;
    }
  }

  /** A lane ran dry. What is finished needs no memory here: the store has it. */
  function rest(lane: Lane): void {
    busy.delete(lane.jobId);
    if (lane.worthKeeping) keep(lane);
    if (busy.size > 0) return;
    for (const resolve of idleWaiters) resolve();
    idleWaiters = [];
  }

  function count(outcome: Cursor | WorkflowMonitorError): outcome is Cursor {
    const stored = !(outcome instanceof Error);
    if (stored) published += 1;
    else if (outcome.code !== "closed") {
      refused += 1;
      report(outcome);
    }
    return stored;
  }

  return {
    get stats() {
      return { jobs: busy.size + idle.size, published, refused };
    },
    publish(input) {
      const promise = new Promise<Cursor>((resolve, reject) => {
        take(null, input, (outcome) => (count(outcome) ? resolve(outcome) : reject(outcome)));
      });
      // Handled here, so that a host that does not await it is not ended by it.
      promise.catch(() => {});
      return promise;
    },
    accept(type, input) {
      take(type, input, count);
    },
    verify() {
      for (const lane of [...idle.values(), ...busy.values()]) lane.verify();
      for (const wake of [...sleepers]) wake();
      const begun = (lane: Lane) => (idle.get(lane.jobId) === lane ? begin(lane) : undefined);
      return eachOf([...idle.values()], VERIFIED_AT_ONCE, begun);
    },
    finish() {
      finishing = true;
      return busy.size === 0
        ? Promise.resolve()
        : new Promise((resolve) => idleWaiters.push(resolve));
    },
    close() {
      finishing = true;
      closing.abort();
      for (const end of [...sleepers]) end();
    },
  };
}
