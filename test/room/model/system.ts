import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type JobSnapshot,
  type PublishedEvent,
  printCursor,
  type WorkflowMonitor,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import { type ManualClock, turns } from "../../support/clock.js";
import { watchRequest } from "../../support/member.js";
import { type Backend, countingClock, createBackend, Link } from "./backend.js";
import type { Connection } from "./connection.js";
import { sinkLine, switchLine } from "./line.js";
import {
  type Config,
  JOB,
  type Model,
  type ModelNode,
  type NodeIndex,
  shownEvent,
} from "./model.js";

export const LINGER_MS = 5_000;

/** A process with a monitor of its own; all of them share the store. */
export interface SystemNode {
  readonly model: ModelNode;
  readonly monitor: WorkflowMonitor;
  readonly link: Link;
  readonly clock: ReturnType<typeof countingClock>;
  /** Its next use of `present` throws. */
  armed: boolean;
  closed: Promise<void> | undefined;
}

/** What is tested: nodes on a store that may lose its logs, on a clock that stands still. */
export class System {
  readonly clock: ManualClock;
  readonly backend: Backend;
  readonly nodes: readonly SystemNode[];
  readonly #model: Model;

  /** @param below chance: a whole number below `count` */
  constructor(model: Model, clock: ManualClock, below: (count: number) => number) {
    const { historyBytes, keepMs, latency } = model.config;
    this.#model = model;
    this.clock = clock;
    this.backend = createBackend(model.log, JOB, { historyBytes, keepMs, clock });
    const delay = () => below(latency + 1);
    const unknown = (revisions: number) => {
      model.saw("an append of unknown outcome");
      for (let each = 0; each < revisions; each++) model.history.indeterminate(JOB);
    };
    this.nodes = model.nodes.map((node) => {
      const link = new Link(this.backend.store, delay, unknown);
      return createNode(model, node, link, countingClock(clock));
    });
  }

  node(index: NodeIndex): SystemNode {
    return this.nodes[index] as SystemNode;
  }

  publish(index: NodeIndex, event: PublishedEvent): void {
    const model = this.#model;
    model.pending.publishes += 1;
    this.node(index)
      .monitor.publish(event)
      .then(
        (cursor) => model.published(index, cursor),
        (error: WorkflowMonitorError) => model.published(index, error),
      );
  }

  join(connection: Connection, after: Cursor | null, line: "switch" | "sink"): void {
    const { pending } = this.#model;
    const { egress } = this.node(connection.node.index).monitor;
    connection.line =
      line === "switch"
        ? switchLine()
        : sinkLine(egress, this.clock, (code) => connection.gaveUp(code));
    pending.joins += 1;
    const request = { ...watchRequest(JOB), transport: connection.transport };
    egress
      .join(request, connection, after)
      .then(
        (seat) => connection.seated(seat),
        (error: WorkflowMonitorError) => connection.refuse(error),
      )
      .finally(() => {
        pending.joins -= 1;
      });
  }

  /** The store loses its logs. */
  restart(): void {
    for (const state of this.#model.nodes) state.muddled = true;
    this.backend.restart();
  }

  close(index: NodeIndex): void {
    const node = this.node(index);
    node.model.closing = true;
    node.closed ??= node.monitor.close();
  }

  /** Lets time pass in steps: what falls due has its turns. */
  async pass(ms: number, stepMs = 5_000): Promise<void> {
    for (let rest = ms; rest > 0; rest -= stepMs) {
      this.clock.advance(Math.min(rest, stepMs));
      await turns(2 + 2 * this.#model.config.latency);
    }
  }

  /** Until nothing is on its way: questions are answered, events are stored and told, the crowd has had its turns. */
  async settle(): Promise<void> {
    const { pending, crowd } = this.#model;
    let written = -1;
    const settled = () => {
      const before = written;
      written = crowd?.writes ?? 0;
      const asked = pending.publishes > 0 || pending.joins > 0;
      return !asked && written === before && this.nodes.every(({ link }) => !link.busy);
    };
    for (let step = 0; ; step++) {
      // Reads follow on reads: once is not enough.
      let still = 0;
      for (let turn = 0; turn < 40 && still < 3; turn++) {
        await turns(2);
        still = settled() ? still + 1 : 0;
      }
      if (still > 0) return;
      if (step === 60) throw new Error(`never settled: ${JSON.stringify(pending)}`);
      this.clock.advance(Math.min(50 * (step + 1), 1_000));
    }
  }
}

function createNode(
  model: Model,
  state: ModelNode,
  link: Link,
  clock: ReturnType<typeof countingClock>,
): SystemNode {
  const { config } = model;
  const present = (job: JobSnapshot) => {
    if (node.armed) {
      node.armed = false;
      model.threw(state);
      throw new Error("of the host");
    }
    return shape(config, job);
  };
  const node: SystemNode = {
    model: state,
    link,
    clock,
    armed: false,
    closed: undefined,
    monitor: createWorkflowMonitor({
      authorize: allowAll,
      store: link.store,
      clock,
      logger: {
        debug() {},
        info() {},
        warn() {},
        error({ err }, message) {
          if (message !== "the job cannot be shown" || state.threwAt < 0) {
            model.fail(`${message}: ${String(err)}`);
          }
        },
      },
      lingerMs: LINGER_MS,
      drainMs: 200,
      stallTimeoutMs: config.stallTimeoutMs,
      limits: { historyBytes: config.historyBytes, inFlightBytes: config.inFlightBytes },
      ...(config.present && { present }),
    }),
  };
  node.monitor.on("update", ({ cursor, event, job }) => {
    model.history.published(JOB, cursor, shownEvent(config, event));
    // A viewer of its own: the bytes of every revision, as its publisher has it.
    model.history.polled({
      viewer: `publisher ${state.index}`,
      transport: "poll",
      jobId: JOB,
      etag: `"${printCursor(cursor)}"`,
      text: JSON.stringify(shape(config, job)),
    });
  });
  return node;
}

/** What viewers get as `job`. */
const shape = ({ present }: Config, job: JobSnapshot): unknown =>
  present ? { shown: job.message, of: job.run, at: job.revision } : job;
