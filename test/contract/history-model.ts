import { type Cursor, type JobState, type Mode, printCursor } from "@org/workflow-monitor";
import type { History } from "@org/workflow-monitor/testing";
import type { WorkflowEvent } from "../../packages/core/src/events.js";
import { reduce } from "../../packages/core/src/reduce.js";
import { diff } from "../../packages/core/src/revision.js";
import { EMPTY, job, plan, stage } from "../core/given.js";

/** Histories of one job as data: a correct one, made by a model of a server, can be told with a fault. */

export const JOB = EMPTY.jobId;
const EPOCH = "k3x9q0a7mw2c";
export const cursorAt = (revision: number): Cursor => ({ epoch: EPOCH, revision });

interface ModelRevision {
  event: string;
  job: string;
  patch: string;
}

/** A frame in parts, so that a fault can change the bytes of one of them. */
export interface ModelFrame {
  type: "snapshot" | "update" | "end" | "error";
  jobId: string;
  cursor: Cursor;
  resumed?: boolean;
  done?: boolean;
  status?: string;
  events?: string[];
  event?: string;
  job?: string;
  patch?: string;
}

export type Step =
  | { do: "published"; at: Cursor; event: WorkflowEvent }
  | { do: "joined"; viewer: string; after?: null }
  | { do: "frame"; viewer: string; frame: ModelFrame }
  | { do: "polled"; viewer: string; body: string }
  | { do: "head"; at: Cursor; job: JobState };

export type Move =
  | { move: "publish" | "repeat" }
  | { move: "take" | "cut" | "behind" | "skip" | "poll"; viewer: number };

/** The first one sees every revision, one by one, and says what is right. */
export const WITNESS = "witness";
const NAMES = [WITNESS, "ann", "bob", "cat"];

interface ModelViewer {
  name: string;
  mode: Mode;
  /** −1: it has no cursor yet. */
  at: number;
  connected: boolean;
}

/** What a correct server and its viewers do in these moves, until the job is over and everybody knows. */
export function correctRun(moves: readonly Move[]): Step[] {
  const run = new ModelRun();
  for (const move of moves) run.play(move);
  run.finish();
  return run.steps;
}

class ModelRun {
  readonly steps: Step[] = [];
  readonly #log: ModelRevision[] = [];
  readonly #viewers = NAMES.map((name, at): ModelViewer => {
    return { name, mode: at % 2 ? "delta" : "full", at: -1, connected: false };
  });
  #job: JobState = EMPTY;
  #last: WorkflowEvent = plan(["a", "b"]);

  constructor() {
    this.#append(plan(["a", "b"]));
    this.#append(stage("a", { status: "running" }));
    this.#connect(this.#viewer(0), false);
  }

  play(move: Move): void {
    if (!("viewer" in move)) {
      return move.move === "publish" ? this.#publish() : this.#acknowledge(this.#last);
    }
    const viewer = this.#viewer(1 + (move.viewer % (NAMES.length - 1)));
    if (move.move === "poll") return this.#poll(viewer);
    if (move.move === "skip" || !viewer.connected) return this.#connect(viewer, false);
    if (move.move === "take") this.#take(viewer);
    else if (move.move === "cut") this.#connect(viewer, true);
    else this.#snapshot(viewer, true);
  }

  finish(): void {
    this.#append(job({ status: "completed" }));
    for (const viewer of this.#viewers) {
      if (!viewer.connected) this.#connect(viewer, true);
      while (this.#take(viewer));
      const status = this.#job.status;
      this.#frame(viewer, { type: "end", jobId: JOB, cursor: this.#head, status });
    }
    this.steps.push({ do: "head", at: this.#head, job: this.#job });
  }

  get #head(): Cursor {
    return cursorAt(this.#log.length);
  }

  #publish(): void {
    const message = `message ${this.#log.length} "\\ é`;
    this.#append(stage("a", { message }));
    while (this.#take(this.#viewer(0)));
  }

  #append(event: WorkflowEvent): void {
    const before = this.#job;
    this.#job = reduce(before, event);
    const { epoch, revision } = cursorAt(this.#log.length + 1);
    this.#log.push({
      event: JSON.stringify(event),
      job: JSON.stringify({ ...this.#job, epoch, revision }),
      patch: JSON.stringify({ ...diff(before, this.#job), revision }),
    });
    this.#acknowledge(event);
  }

  #acknowledge(event: WorkflowEvent): void {
    this.#last = event;
    this.steps.push({ do: "published", at: this.#head, event });
  }

  #connect(viewer: ModelViewer, resumed: boolean): void {
    const { name } = viewer;
    const known = viewer.at >= 0;
    this.steps.push({ do: "joined", viewer: name, ...(!known && { after: null }) });
    viewer.connected = true;
    this.#snapshot(viewer, known && resumed);
  }

  #snapshot(viewer: ModelViewer, resumed: boolean): void {
    const { done } = this.#job;
    const events = resumed ? this.#log.slice(viewer.at).map(({ event }) => event) : [];
    const job = this.#revision(this.#log.length).job;
    viewer.at = this.#log.length;
    const cursor = this.#head;
    this.#frame(viewer, { type: "snapshot", jobId: JOB, cursor, resumed, done, events, job });
  }

  #take(viewer: ModelViewer): boolean {
    if (viewer.at >= this.#log.length) return false;
    viewer.at += 1;
    const { event, job, patch } = this.#revision(viewer.at);
    const change = viewer.mode === "full" ? { job } : { patch };
    this.#frame(viewer, {
      type: "update",
      jobId: JOB,
      cursor: cursorAt(viewer.at),
      event,
      ...change,
    });
    return true;
  }

  #poll(viewer: ModelViewer): void {
    viewer.at = this.#log.length;
    viewer.connected = false;
    this.steps.push({ do: "polled", viewer: viewer.name, body: this.#revision(viewer.at).job });
  }

  #frame({ name }: ModelViewer, frame: ModelFrame): void {
    this.steps.push({ do: "frame", viewer: name, frame });
  }

  #revision(revision: number): ModelRevision {
    return this.#log[revision - 1] as ModelRevision;
  }

  #viewer(at: number): ModelViewer {
    return this.#viewers[at] as ModelViewer;
  }
}

/** Tells a history what happened. */
export function tell(history: History, steps: readonly Step[]): void {
  for (const step of steps) {
    if (step.do === "published") history.published(JOB, step.at, step.event);
    else if (step.do === "joined") history.joined({ jobId: JOB, ...step });
    else if (step.do === "head") history.head(JOB, step.at, { ...step.job, ...step.at });
    else if (step.do === "polled") {
      history.polled({ viewer: step.viewer, transport: "poll", jobId: JOB, text: step.body });
    } else {
      const text = print(step.frame);
      history.observe({ viewer: step.viewer, transport: "ws", jobId: JOB, text });
    }
  }
}

/** A frame's text, its parts as they are. */
export function print({ cursor, events, event, job, patch, ...fields }: ModelFrame): string {
  const envelope = JSON.stringify({ ...fields, cursor: printCursor(cursor) }).slice(0, -1);
  const parts = [
    events && `"events":[${events}]`,
    event && `"event":${event}`,
    job && `"job":${job}`,
    patch && `"patch":${patch}`,
  ];
  return `${[envelope, ...parts.filter((part) => part !== undefined)].join(",")}}`;
}
