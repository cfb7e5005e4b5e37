/** What viewers' programs need of the protocol, without anything of Node: `@org/workflow-monitor/protocol`. */
export type { ErrorCode } from "./errors.js";
export type { Json, PublicError, WorkflowEvent } from "./events.js";
export type {
  EndFrame,
  ErrorFrame,
  Frame,
  FrameType,
  HeartbeatFrame,
  Mode,
  SnapshotFrame,
  UpdateFrame,
  ViewerMessage,
} from "./protocol.js";
export { CloseCode, PROTOCOL_VERSION, SUBPROTOCOL, TOKEN_PROTOCOL } from "./protocol.js";
export type { Cursor, JobPatch } from "./revision.js";
export { applyPatch, parseCursor, printCursor } from "./revision.js";
export type { Counts, JobSnapshot, JobSummary, StageAttempt, StageSnapshot } from "./snapshot.js";
export type { Status } from "./status.js";
