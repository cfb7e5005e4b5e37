import { EventEmitter } from "eventemitter3";
import type TypedEmitter from "typed-emitter";
import type { JobEvent, PlanEvent, StageEvent } from "./events.js";

/** What an engine emits. */
export type WorkflowEngineEvents = {
  plan: (event: PlanEvent) => void;
  job: (event: JobEvent) => void;
  stage: (event: StageEvent) => void;
};

/**
 * The port to a workflow engine: any emitter with these two methods and these events, Node's and
 * eventemitter3's among them.
 */
export type WorkflowEngine = Pick<TypedEmitter<WorkflowEngineEvents>, "on" | "off">;

/** An engine of our own, for hosts that have no emitter: `emit` tells the monitor. */
export type Engine = Pick<
  TypedEmitter<WorkflowEngineEvents>,
  "on" | "once" | "off" | "emit" | "listenerCount" | "removeAllListeners"
>;

export function createEngine(): Engine {
  return new EventEmitter() as unknown as Engine;
}
