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
export type SubjectName = `fan-out ${FanOutSubject}` | `poll ${PollSubject}`;

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
  listen(setup: { subject: SubjectName; frame: UpdateFrame }): Promise<Target>;
  /** The n-th to (n + count − 1)-th update, in one turn. */
  update(from: number, count: number): Promise<void>;
  cpu(): Promise<Cpu>;
  /** Live bytes after a collection. */
  memory(): Promise<number>;
  profile(file: string | null): Promise<void>;
};

export type ViewerCalls = {
  /** Adds viewers to a crowd; resolves when all of them are connected and have what a newcomer gets. */
  connect(crowd: string, target: Target, count: number): Promise<void>;
  /** Resolves when every viewer of the crowd has had this many updates more than before. */
  expect(crowd: string, updates: number): Promise<Delivery>;
};

export interface Delivery {
  /** Updates that all viewers together got. */
  delivered: number;
  /** The size of the last message. */
  bytes: number;
}

export type PollerCalls = {
  poll(target: PollTarget): Promise<Polled>;
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
