import { EventEmitter } from "eventemitter3";
import type TypedEmitter from "typed-emitter";
import type { JobEvent, PlanEvent, StageEvent } from "./events.js";

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

/**
 * The port to a workflow engine: any emitter with these two methods and these events, Node's,
 * eventemitter3's and any typed-emitter among them.
 */
export interface WorkflowEngine {
  on: Subscribe;
  off: Subscribe;
}

/** An engine of our own, for hosts that have no emitter: `emit` tells the monitor. */
export type Engine = Pick<
  TypedEmitter<WorkflowEngineEvents>,
  "on" | "once" | "off" | "emit" | "listenerCount" | "removeAllListeners"
>;

export function createEngine(): Engine {
  return new EventEmitter() as unknown as Engine;
}
