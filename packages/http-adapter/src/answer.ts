import {
  CloseCode,
  type Codec,
  type Cursor,
  type Egress,
  type EndReason,
  type Member,
  type Seat,
  type WatchRequest,
} from "@org/workflow-monitor";
import type { FastifyReply } from "fastify";
import { closeAfter, onceClosed } from "./closed.js";
import { jsonText } from "./codec.js";

/** How a poll went: where it stood, and the frame that answers it, unless there was nothing new. */
export interface Answered {
  seat: Seat;
  frame: readonly Uint8Array[] | undefined;
}

/** How a poll is answered. */
export interface PollOptions {
  /** The poller's cursor. */
  after: Cursor | null;
  /** Longest time to wait for something after it, in milliseconds; 0: it is answered at once. */
  waitMs: number;
  /** Looks at the head before there is anything to wait for: true says that it is news already. */
  isNews?(seat: Seat): boolean;
}

/**
 * Takes a poll to its job's room: there it is a cursor like any other, gets one snapshot frame, and is
 * gone. Rejects with a WorkflowMonitorError; resolves to undefined when its client went away.
 */
export async function poll(
  egress: Egress,
  request: WatchRequest,
  reply: FastifyReply,
  { after, waitMs, isNews }: PollOptions,
): Promise<Answered | undefined> {
  const poller = new Poller(waitMs > 0 && after ? "long-poll" : "poll");
  const answered = onceClosed(reply.raw, () => poller.end(GONE));
  try {
    const seat = await egress.join(request, poller, after);
    if (!poller.isOver && !isNews?.(seat)) {
      const cancel = egress.clock.setTimeout(() => poller.end(NOTHING_NEW), waitMs);
      await poller.over;
      cancel();
    }
    seat.leave(NOTHING_NEW);
    if (poller.outcome?.error) throw poller.outcome.error;
    if (poller.outcome === SERVER_GOES) closeAfter(reply);
    return poller.outcome === GONE ? undefined : { seat, frame: poller.frame };
  } finally {
    answered();
  }
}

const GONE: EndReason = { code: CloseCode.goingAway, reason: "the client went away" };
const NOTHING_NEW: EndReason = { code: CloseCode.done, reason: "nothing new" };
const SERVER_GOES: EndReason = { code: CloseCode.restarting, reason: "nothing new" };

/** One poll as a member. */
class Poller implements Member {
  readonly codec: Codec = jsonText;
  readonly mode: "poll" | "long-poll";
  readonly writable = true;
  readonly over: Promise<void>;
  frame: readonly Uint8Array[] | undefined;
  outcome: EndReason | undefined;
  #resolve = () => {};

  constructor(mode: "poll" | "long-poll") {
    this.mode = mode;
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  get isOver(): boolean {
    return this.outcome !== undefined;
  }

  write(parts: readonly Uint8Array[]): void {
    this.frame ??= parts;
  }

  /** The room ends it after its frame. A node that goes has nothing new to say. */
  end(reason: EndReason): void {
    if (this.outcome) return;
    this.outcome = reason.error?.code === "draining" ? SERVER_GOES : reason;
    this.#resolve();
  }
}
