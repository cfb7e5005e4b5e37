import type { ErrorCode } from "./errors.js";
import type { WorkflowEvent } from "./events.js";
import type { JobPatch } from "./revision.js";
import type { JobSnapshot } from "./snapshot.js";
import type { Status } from "./status.js";

/** Every literal of the wire. PROTOCOL.md says what they mean; a test compares the two. */

export const PROTOCOL_VERSION = 1;

/** The WebSocket subprotocol that a client may offer. */
export const SUBPROTOCOL = "workflow-monitor.v1";

/** Before a token that is offered as a subprotocol, in base64url: browsers send no headers with a handshake. */
export const TOKEN_PROTOCOL = "workflow-monitor.token.";

/** 44xx mirrors HTTP and is final, but for 4408 and 4429; everything else means: come back with your cursor. */
export const CloseCode = {
  done: 1000,
  goingAway: 1001,
  tooBig: 1009,
  internal: 1011,
  restarting: 1012,
  overloaded: 1013,
  fellBehind: 4000,
  noPong: 4001,
  tokenExpired: 4002,
  badRequest: 4400,
  unauthorized: 4401,
  forbidden: 4403,
  unknownJob: 4404,
  unsupportedVersion: 4406,
  tooSlowToSubscribe: 4408,
  tooMany: 4429,
} as const;

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];

/** How a viewer watches; `watch` is a program in the host's process. */
export type Transport = "ws" | "sse" | "poll" | "long-poll" | "watch";

/** `full`: each update carries the job. `delta`: what changed, for `applyPatch`. */
export type Mode = "full" | "delta";

export const parseMode = (text: unknown): Mode | undefined =>
  text === undefined || text === "full" ? "full" : text === "delta" ? "delta" : undefined;

export interface SnapshotFrame {
  type: "snapshot";
  jobId: string;
  cursor: string;
  /** `events` holds every event since the viewer's cursor. */
  resumed: boolean;
  /** It replaces updates: the viewer, or the wire, could not take them one by one. */
  behind?: true;
  done: boolean;
  heartbeatMs: number;
  /** The i-th of n belongs to revision head − n + i. */
  events: WorkflowEvent[];
  job: JobSnapshot;
}

export interface UpdateFrame {
  type: "update";
  jobId: string;
  cursor: string;
  event: WorkflowEvent;
  /** In mode `full`. */
  job?: JobSnapshot;
  /** In mode `delta`. */
  patch?: JobPatch;
}

export interface HeartbeatFrame {
  type: "heartbeat";
  timestamp: string;
  /** The store is away: what is shown may be old. */
  stale?: true;
}

/** The viewer has everything, and the job is over. */
export interface EndFrame {
  type: "end";
  jobId: string;
  cursor: string;
  status: Status;
}

export interface ErrorFrame {
  type: "error";
  jobId?: string;
  code: ErrorCode;
  message: string;
  retryable: boolean;
  retryAfterMs?: number;
}

/** Viewer to server, on a WebSocket. */
export type ViewerMessage =
  | { type: "subscribe"; jobId: string; after?: string; mode?: Mode }
  | { type: "unsubscribe"; jobId: string }
  | { type: "ping" };

/** Server to viewer. Viewers ignore types and fields that they do not know. */
export type Frame = SnapshotFrame | UpdateFrame | HeartbeatFrame | EndFrame | ErrorFrame;
export type FrameType = Frame["type"];
