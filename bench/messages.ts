import type { NetConnectOpts } from "node:net";
import type { UpdateFrame } from "./payload.js";

/** What the parent asks its children, and what they answer. */

export type FanOutSubject =
  | "ours"
  | "ours-delta"
  | "ours-sse"
  | "ws"
  | "socket.io"
  | "uws"
  | "better-sse"
  | "floor";
export type PollSubject = "ours" | "bare";
/** Peers send again the updates that were missed, or only their events. */
export type CatchUpSubject = "ours" | "updates" | "events";
/** A web node on Redis, and a process that only sends. */
export type NodeSubject = "ours" | "socket.io";
export type SubjectName =
  | `fan-out ${FanOutSubject}`
  | `poll ${PollSubject}`
  | `catch-up ${CatchUpSubject}`
  | `node ${NodeSubject}`
  | `worker ${NodeSubject}`
  | "patient"
  | "large"
  | "large and patient";

/**
 * What a viewer has to understand. `bare`: each text message is an update. `frames`: the monitor's
 * WebSocket frames. `sse`: the same, or a peer's, as server-sent events.
 */
export type Dialect = "bare" | "frames" | "socket.io" | "sse";

/** Where viewers find a subject. */
export interface Target {
  to: NetConnectOpts;
  path: string;
  dialect: Dialect;
}

export interface Cpu {
  /** Microseconds. */
  user: number;
  system: number;
}

/** What the parent may ask of a server or of the viewers: each question, and the type of its answer. */
export type ServerCalls = {
  listen(setup: { subject: SubjectName; frame: UpdateFrame; redis?: string }): Promise<Target>;
  /** The n-th to (n + count − 1)-th update, in one turn. */
  update(from: number, count: number): Promise<void>;
  cpu(): Promise<Cpu>;
  /** Sends that many updates, one every so many milliseconds from `afterMs` on; resolves to when each was sent. */
  pace(from: number, count: number, everyMs: number, afterMs: number): Promise<number[]>;
  /** After a collection, in bytes: what is alive, of that the buffers, and what the process has of the machine. */
  memory(): Promise<{ live: number; buffers: number; rss: number }>;
  stats(): Promise<SubjectStats>;
  profile(file: string | null): Promise<void>;
};

/** A monitor's viewers, and the bytes of the events that it took. */
export interface SubjectStats {
  viewers: number;
  parked: number;
  /** Viewers that are gone. */
  left: number;
  bytes: number;
}

/** How long a viewer reads: up to its first snapshot, or not even that. */
export type Reads = "all" | "snapshot" | "nothing";

export type ViewerCalls = {
  /** Adds viewers to a crowd; resolves when all of them are connected and have what they read of what a newcomer gets. */
  connect(crowd: string, target: Target, count: number, reads?: Reads): Promise<void>;
  /** From now on the arrivals of so many updates are noted. */
  record(crowd: string, updates: number): Promise<void>;
  /** What was noted: of each update, when viewers had it. */
  arrivals(crowd: string): Promise<number[][]>;
  /** Viewers that leave when they have had so many updates; resolves to the milliseconds until the last one had. */
  catchUp(target: Target, count: number, updates: number, atOnce: number): Promise<number>;
  /** Resolves when every viewer of the crowd has had this many updates more than before. */
  expect(crowd: string, updates: number): Promise<Delivery>;
};

export interface Delivery {
  /** Updates that all viewers together got. */
  delivered: number;
  /** The size of the last message. */
  bytes: number;
}

export type PublisherCalls = {
  /** This many events with so many in flight; resolves to microseconds of CPU for each. */
  publish(kind: "message" | "progress", count: number, inFlight: number): Promise<number>;
  /** `JSON.stringify` of the job, so often. */
  stringify(count: number): Promise<{ cost: number; bytes: number }>;
  profile(file: string | null): Promise<void>;
};

export type RedisPeerCalls = {
  open(url: string): Promise<void>;
  /** Milliseconds from PUBLISH to its message, one every so many milliseconds. */
  echo(count: number, everyMs: number): Promise<number[]>;
  /** So many events, so many in flight: a second. */
  throughput(
    way: "publish" | "xadd",
    jobs: "one" | "many",
    count: number,
    inFlight: number,
  ): Promise<number>;
};

export type RecoveryCalls = {
  /** Clients that watch the job, all of them live. */
  watch(url: string, count: number): Promise<void>;
  /** Resolves, when all are live again, to the milliseconds that each took beyond the wait before its try. */
  recovered(): Promise<number[]>;
  /** The revisions that were missed or told twice, when all of them have had this one. */
  missed(revision: number): Promise<number>;
};

export type PollerCalls = {
  poll(target: PollTarget): Promise<Polled>;
};

export type PageServerCalls = {
  /** Serves the page whose scripts are in a directory; resolves to its port. */
  listen(directory: string): Promise<number>;
  /** Begins a job of so many stages; resolves to its id. */
  open(stages: number): Promise<string>;
  /** Publishes that many updates a second, until `stop`, which resolves to the job's revision. */
  start(jobId: string, stages: number, perSecond: number): Promise<void>;
  stop(jobId: string): Promise<number>;
  end(jobId: string): Promise<void>;
};

export interface PollTarget {
  to: NetConnectOpts;
  path: string;
  connections: number;
  requests: number;
  /** Ask with the ETag of the first answer. */
  conditional: boolean;
}

export interface Polled {
  ms: number;
  status: number;
  bytes: number;
}
