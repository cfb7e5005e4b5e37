import type { Cursor, WorkflowEvent, WorkflowMonitorError } from "@org/workflow-monitor";
import { createHistory } from "@org/workflow-monitor/testing";
import type { Crowd } from "../../support/crowd.js";
import type { Connection, Viewer } from "./connection.js";
import { ModelLog } from "./log.js";

export const JOB = "job";
const NODES = [0, 1] as const;
export type NodeIndex = (typeof NODES)[number];

/** How a run is set up. */
export interface Config {
  /** Of all that happens by chance: jitter, how long the store takes. */
  seed: number;
  /** Most turns that a message to or from the store takes. */
  latency: number;
  historyBytes: number;
  inFlightBytes: number;
  stallTimeoutMs: number;
  /** How long the store keeps history at least, whatever its size. */
  keepMs: number;
  /** Viewers get another shape of the job, made by a function that may throw. */
  present: boolean;
  /** Of so many that a room cannot send to all of them in one turn; they are on the first node. */
  crowd: "full" | "delta" | undefined;
}

/** What viewers get of an event. SPEC R16. */
export const shownEvent = ({ present }: Config, event: WorkflowEvent): WorkflowEvent =>
  present ? { type: "job", timestamp: event.timestamp } : event;

/** What the model knows of a node. */
export interface ModelNode {
  readonly index: NodeIndex;
  closing: boolean;
  /** Its connection to the store is lost, and the last moment at which it was. */
  away: boolean;
  awayAt: number;
  /** When it came back, by the clock. */
  backAt: number;
  /** The last moment at which its `present` threw, and who had a seat then. */
  threwAt: number;
  victims: Connection[];
  /** Announcements may have been late or lost: it may show what is old. */
  muddled: boolean;
  /** When a viewer left it last, by the clock. */
  leftAt: number;
}

/** How often what happened, over all runs. */
export type Coverage = Map<string, number>;

/** What must be: the log, who watches it and what each of them has seen. */
export class Model {
  readonly config: Config;
  readonly log: ModelLog;
  readonly history = createHistory();
  readonly nodes: readonly ModelNode[];
  readonly viewers: Viewer[] = [];
  /** Every connection there ever was. */
  readonly connections: Connection[] = [];
  crowd: Crowd | undefined;
  readonly coverage: Coverage;
  readonly now: () => number;
  /** The latest run that was asked for. */
  run = 1;
  /** Event ids that were used. */
  readonly ids: string[] = [];
  /** Numbers that make each message another one. */
  said = 0;
  /** Publishes and joins that were not answered. */
  readonly pending = { publishes: 0, joins: 0 };
  readonly #failures: string[] = [];

  constructor(config: Config, now: () => number, coverage: Coverage) {
    this.config = config;
    this.now = now;
    this.coverage = coverage;
    this.log = new ModelLog(now);
    this.nodes = NODES.map((index) => ({
      index,
      closing: false,
      away: false,
      awayAt: -1,
      backAt: now(),
      muddled: false,
      threwAt: -1,
      victims: [],
      leftAt: now(),
    }));
  }

  /** Something interesting happened. */
  saw(what: string): void {
    this.coverage.set(what, (this.coverage.get(what) ?? 0) + 1);
  }

  /** Something happened that must not. Does not throw: rooms would take it for a member's fault. */
  readonly fail = (what: string): void => {
    this.#failures.push(what);
  };

  assertSound(): void {
    if (this.#failures.length > 0) throw new Error(this.#failures.slice(0, 5).join("\n"));
  }

  node(index: NodeIndex): ModelNode {
    return this.nodes[index] as ModelNode;
  }

  open(): Connection[] {
    return this.connections.filter(({ open }) => open);
  }

  /** `present` of a node throws, in the hands of a room: everybody in it has to go. */
  threw(node: ModelNode): void {
    node.threwAt = this.log.next();
    this.saw("present threw");
    const here = this.open().filter((each) => each.node === node);
    // It may have been another room: who comes while the job is over is answered by one of his own.
    const answering = here.some((each) => each.waitsForAnswer);
    if (this.log.done || answering || this.pending.joins > 0) return;
    node.victims = here.filter(({ seat }) => seat);
  }

  /** A publish was answered. */
  published(node: NodeIndex, outcome: Cursor | WorkflowMonitorError): void {
    this.pending.publishes -= 1;
    if (!(outcome instanceof Error)) {
      if (!this.log.has(outcome))
        this.fail(`a publish led to ${outcome.epoch}.${outcome.revision}`);
    } else if (outcome.code !== "closed" || !this.node(node).closing) {
      this.fail(`a publish was rejected: ${outcome.code}, ${outcome.message}`);
    }
  }
}
