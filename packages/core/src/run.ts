import type { JobEvent, PlanEvent, ProgressInput, PublishedEvent, StageEvent } from "./events.js";
import type { Clock } from "./host.js";
import type { Cursor } from "./revision.js";
import type { JobState } from "./snapshot.js";

/** A plan for `run`: a plan event without what `run` fills in, and a signal that cancels. */
export interface RunPlan extends Omit<PlanEvent, "jobId" | "run" | "id" | "timestamp"> {
  /** Aborted: the job is cancelled, and `run` rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** What a stage's work can tell. */
export interface StageContext {
  progress(progress: ProgressInput): void;
  message(text: string): void;
  /** The plan's signal; never aborted when it has none. */
  signal: AbortSignal;
}

export interface RunContext {
  /** Runs one stage: it is running, then completed with what `fn` returns, or failed with what it throws. */
  stage<T>(name: string, fn: (context: StageContext) => T | Promise<T>): Promise<T>;
  signal: AbortSignal;
}

export type Work<T> = (context: RunContext) => T | Promise<T>;

/** What `run` needs of a monitor. */
interface Publisher {
  publish(event: PublishedEvent): Promise<Cursor>;
  /** What is known of the job's last run. */
  former(jobId: string): Promise<JobState | undefined>;
  clock: Clock;
}

/** The work is not held up for longer by a store that does not answer. */
const PATIENCE_MS = 2_000;

/**
 * Emits for plain async code: the plan, `running`, each stage as it comes and goes, and the end. A
 * job that has begun before starts its next run; calling a stage again is its next attempt. The work
 * runs whatever becomes of the events: monitoring never breaks it.
 */
export async function run<T>(
  { publish, former, clock }: Publisher,
  jobId: string,
  { signal = new AbortController().signal, ...plan }: RunPlan,
  work: Work<T>,
): Promise<T> {
  const last = await within(clock, former(jobId));
  const begun = last !== undefined && last.status !== "pending";
  const about = { jobId, run: (last?.run ?? 1) + (begun ? 1 : 0) };
  const attempts = new Map<string, number>();

  async function stage<S>(name: string, fn: (context: StageContext) => S | Promise<S>): Promise<S> {
    const attempt = (attempts.get(name) ?? 0) + 1;
    attempts.set(name, attempt);
    const tell = (what: Partial<StageEvent>) => {
      void publish({ type: "stage", ...about, stage: name, attempt, ...what });
    };
    tell({ status: "running" });
    try {
      signal.throwIfAborted();
      const result = await fn({
        progress: (progress) => tell({ progress }),
        message: (message) => tell({ message }),
        signal,
      });
      tell({ status: "completed" });
      return result;
    } catch (thrown) {
      tell(outcome(thrown, signal));
      throw thrown;
    }
  }

  void publish({ type: "plan", ...about, ...plan });
  void publish({ type: "job", ...about, status: "running" });
  const end = (what: Partial<JobEvent>) =>
    within(clock, publish({ type: "job", ...about, ...what }));
  try {
    signal.throwIfAborted();
    const result = await work({ stage, signal });
    await end({ status: "completed" });
    return result;
  } catch (thrown) {
    await end(outcome(thrown, signal));
    throw thrown;
  }
}

function outcome(thrown: unknown, signal: AbortSignal) {
  if (signal.aborted) return { status: "cancelled" } as const;
  return { status: "failed", error: thrown instanceof Error ? thrown : String(thrown) } as const;
}

/** What a promise resolves to, if it does in time. */
function within<T>(clock: Clock, promise: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve) => {
    const cancel = clock.setTimeout(() => resolve(undefined), PATIENCE_MS);
    promise.then(resolve, () => resolve(undefined)).finally(cancel);
  });
}
