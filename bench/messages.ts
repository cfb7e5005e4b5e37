import type { UpdateFrame } from "./payload.js";

/** What the parent asks its children, and what they answer. */

export type FanOutSubject = "ours" | "ours-delta" | "ws" | "socket.io" | "floor";
export type PollSubject = "ours" | "bare";
export type SubjectName = `fan-out ${FanOutSubject}` | `poll ${PollSubject}`;

export interface Cpu {
  /** Microseconds. */
  user: number;
  system: number;
}

/** What the parent may ask of a server or of the viewers: each question, and the type of its answer. */
export type ServerCalls = {
  listen(setup: { subject: SubjectName; frame: UpdateFrame }): Promise<{ port: number }>;
  /** The n-th to (n + count − 1)-th update, in one turn. */
  update(from: number, count: number): Promise<void>;
  cpu(): Promise<Cpu>;
  /** Live bytes after a collection. */
  memory(): Promise<number>;
  profile(file: string | null): Promise<void>;
};

export type ViewerCalls = {
  /** Resolves when all of them are connected and have what a newcomer gets. */
  connect(target: { subject: FanOutSubject; port: number; count: number }): Promise<void>;
  /** Resolves when every viewer of the subject has had this many updates more than before. */
  expect(subject: FanOutSubject, updates: number): Promise<Delivery>;
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
  port: number;
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
