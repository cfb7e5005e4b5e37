import { createEngine, type Engine, type WorkflowEngine } from "@org/workflow-monitor";
import { type EngineFixture, engineContract } from "@org/workflow-monitor/testing";
import { describe, test } from "vitest";
import { expectFault, results } from "./prove.js";

let jobs = 0;

interface Said {
  jobId: string;
  stage?: string;
}

/** `emit` without its types: faults say what types forbid. */
type Emit = (name: string, event: Said & Record<string, unknown>) => unknown;
const emitOf = (engine: Engine): Emit => engine.emit.bind(engine) as unknown as Emit;

/** A small engine of two stages. */
function fixture(engine: WorkflowEngine, emit: Emit): EngineFixture {
  return {
    engine,
    async run(end: "completed" | "failed") {
      const jobId = `job-${++jobs}`;
      emit("plan", { jobId, stages: [{ stage: "one" }, { stage: "two" }] });
      emit("stage", { jobId, stage: "one", status: "running", progress: 10 });
      emit("stage", { jobId, stage: "one", status: "completed" });
      emit("stage", { jobId, stage: "two", status: "running" });
      const error = end === "failed" ? { error: new Error("two broke") } : {};
      emit("stage", { jobId, stage: "two", status: end, ...error });
      return jobId;
    },
  };
}

describe("createEngine", () => {
  engineContract({
    test,
    create() {
      const engine = createEngine();
      return fixture(engine, emitOf(engine));
    },
  });
});

/** The engine with a fault, and the test that must find it. */
const faults: Record<string, { found: string; create(): EngineFixture }> = {
  "an engine that cannot be detached from": {
    found: "after detach nothing is heard",
    create() {
      const engine = createEngine();
      return fixture({ on: engine.on.bind(engine), off() {} }, emitOf(engine));
    },
  },
  "an engine that never ends a job": {
    found: "a job that succeeds is watched to completed",
    create: () => saying((emit) => (name, event) => event.stage === "two" || emit(name, event)),
  },
  "an engine that invents a status": {
    found: "every event is valid",
    create: () =>
      saying((emit) => (name, event) => {
        emit("stage", { jobId: event.jobId, stage: "one", status: "sleeping" });
        emit(name, event);
      }),
  },
  "an engine that keeps why to itself": {
    found: "a job that fails is watched to failed, with a stage or a job that says why",
    create: () => saying((emit) => (name, event) => emit(name, { ...event, error: null })),
  },
  "an engine that calls every job by one name": {
    found: "two jobs do not mix",
    create: () => saying((emit) => (name, event) => emit(name, { ...event, jobId: "job" })),
  },
  "an engine with one listener": {
    found: "every monitor that is attached hears everything",
    create() {
      const engine = createEngine();
      const one: WorkflowEngine = {
        on: (name, listener) => engine.removeAllListeners(name).on(name, listener),
        off: (name, listener) => engine.off(name, listener),
      };
      return fixture(one, emitOf(engine));
    },
  },
  "an engine that goes on after the end": {
    found: "the log shows the way: it begins before it runs, and nothing follows the end",
    create: () =>
      saying((emit) => (name, event) => {
        emit(name, event);
        if (event.stage === "two") emit("job", { jobId: event.jobId, run: 2, status: "running" });
      }),
  },
};

/** An engine whose words are changed. */
function saying(change: (emit: Emit) => Emit): EngineFixture {
  const engine = createEngine();
  return fixture(engine, change(emitOf(engine)));
}

describe("the kit finds", () => {
  test.each(Object.entries(faults))("%s", async (_name, { found, create }) => {
    const all = await results((collect) =>
      engineContract({
        test: (name, run) => name === found && collect(name, run),
        create,
        patienceMs: 100,
      }),
    );
    expectFault(all, found);
  });
});
