import { EventEmitter } from "eventemitter3";
import type TypedEmitter from "typed-emitter";
import type { JobEvent, PlanEvent, StageEvent } from "./events.js";
import type { JobSnapshot } from "./snapshot.js";

/** What an engine emits. */
export type WorkflowEngineEvents = {
  plan: (event: PlanEvent) => void;
  job: (event: JobEvent) => void;
  stage: (event: StageEvent) => void;
};

type Subscribe = <E extends keyof WorkflowEngineEvents>(
  event: E,
  listener: WorkflowEngineEvents[E],
) => unknown;

/** What an engine may ask a monitor that listens to it. */
export interface EngineHost {
  /**
   * The job as the monitor has it; undefined: the monitor has no such job. Rejects while the
   * monitor's store is away.
   */
  get(jobId: string): Promise<JobSnapshot | undefined>;
}

/**
 * The port to a workflow engine: any emitter with these two methods and these events, Node's,
 * eventemitter3's and any typed-emitter among them.
 */
export interface WorkflowEngine {
  on: Subscribe;
  off: Subscribe;
  /**
   * Optional. The monitor calls it once when it is attached, before it subscribes. An engine that
   * forgets its jobs can ask what the monitor still waits for.
   */
  attached?(host: EngineHost): void;
}

/** An engine of our own, for hosts that have no emitter: `emit` tells the monitor. */
export type Engine = Pick<
  TypedEmitter<WorkflowEngineEvents>,
  "on" | "once" | "off" | "emit" | "listenerCount" | "removeAllListeners"
>;

export function createEngine(): Engine {
  return new EventEmitter() as unknown as Engine;
}
