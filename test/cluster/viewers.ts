import type { IncomingHttpHeaders } from "node:http";
import type { Frame, Transport } from "@org/workflow-monitor";
import type { History } from "@org/workflow-monitor/testing";
import { onTestFinished } from "vitest";
import { overEventPoll, overEventStream, overPoll } from "../support/http-watchers.js";
import type { Random } from "../support/random.js";
import { overSubscription, overWebSocket, type WatcherTransport } from "../support/watchers.js";
import type { LiveJob } from "./jobs.js";
import type { NodeCalls } from "./node.js";
import { Once } from "./once.js";
import type { ClusterProcess } from "./process.js";

/** A node, and the port that it keeps over all its lives. */
export interface WebNode {
  process: ClusterProcess<NodeCalls>;
  port: number;
  /** Streams that have begun: those hear its heartbeats. */
  streams: number;
}

export interface ViewersOptions {
  history: History;
  random: Random;
  nodes: readonly WebNode[];
  /** What somebody may watch. */
  live: ReadonlySet<LiveJob>;
  /** The job may be unknown: nobody is to blame when its viewers are sent away. */
  mayBeGone(jobId: string): boolean;
}

/** One that watches a job to its end. */
interface Viewer {
  name: string;
  jobId: string;
  cursor?: string | undefined;
  /** How it is connected. */
  line: string;
  /** There is no end of this job to wait for. */
  gaveUp?: true;
  cut(): void;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/**
 * People who watch one job after another, each to its end: whenever their connection is over, or they
 * have had enough of it, they come back over another transport, to any node, with their cursor.
 */
export class Viewers {
  readonly now = new Set<Viewer>();
  readonly counts = { viewers: 0, connections: 0, frames: 0, cuts: 0 };
  readonly connections: Record<Transport, number> = {
    ws: 0,
    sse: 0,
    poll: 0,
    "long-poll": 0,
    watch: 0,
  };
  readonly stale = { heartbeats: 0, polls: 0, refusedPolls: 0 };
  /** Streams that were closed for no good reason. */
  readonly closed: string[] = [];
  readonly once = new Once();
  /** Nodes whose heartbeats said that Redis is away, since it was cleared. */
  readonly saidStale = new Set<WebNode>();
  /** 503 without Retry-After. */
  hopeless = 0;
  stopped = false;
  readonly #options: ViewersOptions;

  constructor(options: ViewersOptions) {
    this.#options = options;
    onTestFinished(() => {
      this.stopped = true;
      for (const viewer of this.now) viewer.cut();
    });
  }

  /** One person: until nothing is live any more, or all are stopped. */
  async watchAll(person: number): Promise<void> {
    const { live, random } = this.#options;
    for (let n = 1; !this.stopped; ) {
      const job = random.pick([...live]);
      if (job) await this.#watch(`viewer ${person}.${n++}`, job.jobId);
      else await sleep(100);
    }
  }

  async #watch(name: string, jobId: string): Promise<void> {
    const viewer: Viewer = { name, jobId, line: "", cut: () => {} };
    this.counts.viewers += 1;
    this.now.add(viewer);
    let done = false;
    while (!done && !viewer.gaveUp && !this.stopped) {
      done = await this.#connect(viewer);
      // As a client does, only sooner.
      if (!done) await sleep(20 + this.#options.random.below(500));
    }
    this.now.delete(viewer);
  }

  /** One connection, or a poll; whether that was the end. */
  async #connect(viewer: Viewer): Promise<boolean> {
    const { history, nodes, random, mayBeGone } = this.#options;
    const { name, jobId, cursor } = viewer;
    const node = random.pick(nodes) as WebNode;
    const { life } = node.process;
    const wire = new Wire(this);
    const { transport, bodies, connect } = this.#transport(node.port, wire);
    const streams = transport === "ws" || transport === "sse";
    const abort = new AbortController();
    viewer.cut = () => abort.abort();
    viewer.line = `${transport} to ${node.process.name}`;
    this.counts.connections += 1;
    this.connections[transport] += 1;
    history.joined({ viewer: name, jobId, ...(cursor === undefined && { after: null }) });
    let done = false;
    let begun = false;
    let frames = 0;
    let refused = "";
    const finish = () => {
      done = true;
    };
    for await (const text of connect(jobId, cursor, abort.signal, finish)) {
      if (abort.signal.aborted) break;
      frames += 1;
      if (bodies) {
        history.polled({ viewer: name, transport, jobId, text });
        const { epoch, revision } = JSON.parse(text) as { epoch: string; revision: number };
        viewer.cursor = `${epoch}.${revision}`;
        continue;
      }
      history.observe({ viewer: name, transport, jobId, text });
      const frame = JSON.parse(text) as Frame;
      if (frame.type === "snapshot" && streams && !begun) {
        begun = true;
        node.streams += 1;
      }
      if ("cursor" in frame) viewer.cursor = frame.cursor;
      if (frame.type === "heartbeat" && frame.stale) this.#stale(node);
      if (frame.type === "error") {
        // It ended the subscription; a socket that others may use stays open.
        refused = frame.code;
        break;
      }
      if (frame.type === "end") finish(); // and goes on: nothing may follow
      this.once.saw(jobId, frame);
    }
    if (begun) node.streams -= 1;
    const wasCut = abort.signal.aborted;
    abort.abort();
    this.counts.frames += frames;
    if (done && frames === 0) history.finished(name, jobId);
    const killed = !node.process.alive || node.process.life !== life;
    const blameless = done || wasCut || killed || !begun;
    if (!blameless && !(refused === "unknown_job" && mayBeGone(jobId)))
      this.closed.push(`${name} of ${jobId} over ${transport}: ${refused} ${wire.closeCode}`);
    return done;
  }

  /** Nobody waits for the end of a job that is rightly lost. */
  giveUp(jobId: string): void {
    for (const viewer of this.now) {
      if (viewer.jobId !== jobId) continue;
      viewer.gaveUp = true;
      this.#options.history.gaveUp(viewer.name, jobId);
      viewer.cut();
    }
  }

  #stale(node: WebNode): void {
    this.stale.heartbeats += 1;
    this.saidStale.add(node);
  }

  #transport(port: number, wire: Wire): WatcherTransport {
    const { random } = this.#options;
    const mode = random.pick(["full", "delta"] as const) as "full" | "delta";
    const ways = [
      () => overWebSocket(port, mode, wire),
      () => overWebSocket(port, mode, wire),
      () => overSubscription(port, mode, wire),
      () => overEventStream(port, mode, wire),
      () => overEventStream(port, mode, wire),
      () => overEventPoll(port, undefined, wire),
      () => overEventPoll(port, 5, wire),
      () => overPoll(port, wire),
    ];
    return (random.pick(ways) as () => WatcherTransport)();
  }

  /** What networks do. */
  async churn(everyMs: number): Promise<void> {
    while (!this.stopped) {
      await sleep(everyMs);
      this.counts.cuts += 1;
      this.#options.random.pick([...this.now])?.cut();
    }
  }
}

/** What a connection shows beside its frames. */
class Wire {
  closeCode = 0;
  readonly #viewers: Viewers;

  constructor(viewers: Viewers) {
    this.#viewers = viewers;
  }

  closed(code: number): void {
    this.closeCode = code;
  }

  answered(status: number, headers: IncomingHttpHeaders): void {
    if (headers.stale === "true") this.#viewers.stale.polls += 1;
    if (status !== 503) return;
    this.#viewers.stale.refusedPolls += 1;
    if (headers["retry-after"] === undefined) this.#viewers.hopeless += 1;
  }
}
