import {
  CloseCode,
  type Cursor,
  type Egress,
  type EndReason,
  type Mode,
  type Seat,
  type WatchRequest,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { Allowance, type Wish } from "./messages.js";

/** What `authorize` may look at: of the request that opened the connection. */
export type Handshake = Pick<WatchRequest, "headers" | "query" | "remoteAddress">;

/** The connection of some requests. */
export interface Requester {
  readonly egress: Egress;
  readonly handshake: Handshake;
  readonly seats: readonly Seat[];
  readonly closed: boolean;
  /** When the job that the connection was opened for, if it is this one, is watched or refused. Does not reject. */
  opened(jobId: string): Promise<void>;
  /** Joins a job's room, or tells why not. Does not reject. */
  watch(request: WatchRequest, after: Cursor | null, mode: Mode): Promise<void>;
  unwatch(jobId: string): void;
  /** Tells that a job is not watched. */
  refuseJob(error: WorkflowMonitorError): void;
  /** Closes. */
  refuse(error: WorkflowMonitorError): void;
  finish(reason: EndReason): void;
}

const SUBSCRIBE_MS = 10_000;
/** Requests that wait for the one before them. */
const MAX_WAITING = 256;

/** What a viewer asks for on a connection for many jobs. Made when there is something: few connections have one. SPEC D7. */
export class Requests {
  readonly #connection: Requester;
  readonly #allowance: Allowance;
  /** One is handled after another. */
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** Refusals since the connection was last writable. */
  #unread = 0;
  /** How the last subscription ended. */
  #outcome: EndReason | undefined;
  #cancelIdle: (() => void) | undefined;

  constructor(connection: Requester) {
    const { clock, limits } = connection.egress;
    this.#connection = connection;
    this.#allowance = new Allowance(clock, limits.jobsPerConnection, limits.subscribesPerSecond);
  }

  take(wish: Wish & { type: "subscribe" | "unsubscribe" }): void {
    if (wish.type === "unsubscribe") this.#enqueue(() => this.#unsubscribe(wish.jobId));
    else if (this.#allowance.take()) this.#enqueue(() => this.#subscribe(wish));
    else {
      const { subscribesPerSecond } = this.#connection.egress.limits;
      throw new WorkflowMonitorError(
        "too_many_subscriptions",
        `A connection may subscribe ${subscribesPerSecond} times a second: slow down.`,
        { jobId: wish.jobId, retryAfterMs: Math.ceil(1_000 / subscribesPerSecond) },
      );
    }
  }

  /** A subscription is over, or was refused: when nothing is watched any more, the connection has a while to say what else, or is done. */
  rest(outcome?: EndReason): void {
    this.#outcome = outcome ?? this.#outcome;
    if (!this.#idle) return;
    if (this.#outcome && this.#outcome.code !== CloseCode.unknownJob) {
      return this.#connection.finish(this.#outcome);
    }
    const message = `Nothing is watched: subscribe within ${SUBSCRIBE_MS / 1_000} s.`;
    this.#cancelIdle ??= this.#connection.egress.clock.setTimeout(() => {
      this.#cancelIdle = undefined;
      if (!this.#idle) return;
      this.#connection.refuse(new WorkflowMonitorError("subscribe_timeout", message));
    }, SUBSCRIBE_MS);
  }

  /** False: it asks, but does not read its answers. A line may be full of what it watches, though. */
  mayRefuse(writable: boolean): boolean {
    this.#unread = writable ? 0 : this.#unread + 1;
    return this.#unread <= this.#connection.egress.limits.jobsPerConnection;
  }

  get #idle(): boolean {
    const { seats, closed } = this.#connection;
    return !closed && this.#waiting === 0 && seats.length === 0;
  }

  close(): void {
    this.#cancelIdle?.();
  }

  async #subscribe({ jobId, after, mode }: Wish & { type: "subscribe" }): Promise<void> {
    const connection = this.#connection;
    await connection.opened(jobId);
    if (connection.closed) return;
    connection.unwatch(jobId); // what is said later holds
    const { jobsPerConnection } = connection.egress.limits;
    if (connection.seats.length >= jobsPerConnection) {
      const message = `A connection may watch ${jobsPerConnection} jobs: unsubscribe from one.`;
      connection.refuseJob(new WorkflowMonitorError("too_many_subscriptions", message, { jobId }));
      return;
    }
    this.#cancelIdle?.();
    this.#cancelIdle = undefined;
    const request = { ...connection.handshake, jobId, action: "watch", transport: "ws" } as const;
    await connection.watch(request, after, mode);
  }

  async #unsubscribe(jobId: string): Promise<void> {
    await this.#connection.opened(jobId);
    this.#connection.unwatch(jobId);
    this.#outcome = undefined;
  }

  #enqueue(work: () => Promise<void>): void {
    if (this.#waiting >= MAX_WAITING) {
      const message = "Too many requests wait for an answer: come back later.";
      return this.#connection.refuse(new WorkflowMonitorError("too_many_subscriptions", message));
    }
    this.#waiting += 1;
    this.#last = this.#last.then(work).then(() => {
      this.#waiting -= 1;
      this.rest();
    });
  }
}
