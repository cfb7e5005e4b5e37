// In the order in which data flows: opened in this order, the files explain the system, and each one
// imports only what stands above it. Those in comments are inside.

export type { ErrorCode, ErrorDetails } from "./errors.js";
export { WorkflowMonitorError } from "./errors.js";
export type { Clock, Logger } from "./host.js";
// ./turns.js
export type { Limits } from "./limits.js";
export type { Status, StatusInput } from "./status.js";
export { isActive, isTerminal, STATUSES } from "./status.js";

// What engines say.
export type {
  ErrorInput,
  JobEvent,
  Json,
  PlanEvent,
  PlannedStage,
  ProgressInput,
  PublicError,
  PublishedEvent,
  StageEvent,
  TimestampInput,
  WorkflowEvent,
} from "./events.js";
export { isJobId } from "./normalise.js";

// What a job is after it.
export type {
  Counts,
  JobSnapshot,
  JobState,
  JobSummary,
  StageAttempt,
  StageSnapshot,
} from "./snapshot.js";
export type { Engine, EngineHost, WorkflowEngine, WorkflowEngineEvents } from "./engine.js";
export { createEngine } from "./engine.js";
// ./progress.js, ./reduce.js, ./merge.js

// The log, and the way into it.
export type { Batch, Cursor, JobPatch, Revision } from "./revision.js";
export { applyPatch, parseCursor, printCursor } from "./revision.js";
// ./fold.js
export type {
  Announced,
  JobPage,
  JobQuery,
  JobRecord,
  JobStore,
  ListPlace,
  ListQuery,
  ListSlice,
} from "./store.js";
// ./job-log.js, ./job-order.js
export type { MemoryStoreOptions } from "./memory-store.js";
export { memoryStore } from "./memory-store.js";
// ./store-faults.js, ./merge.js, ./lane.js, ./ingest.js

// The way to the viewers.
export type { Frame, FrameType, Mode, Transport, ViewerMessage } from "./protocol.js";
export {
  CloseCode,
  PROTOCOL_VERSION,
  parseMode,
  SUBPROTOCOL,
  TOKEN_PROTOCOL,
} from "./protocol.js";
export type { Refusal } from "./refusals.js";
export { refusals } from "./refusals.js";
export type { Codec } from "./frames.js";
export { encodeError } from "./frames.js";
export type { JobBody } from "./bodies.js";
// ./history.js, ./replica.js
export type { EndReason, Member, Seat, Service } from "./seat.js";
// ./room.js
export type { LeaveEvent, ViewerEvent } from "./rooms.js";
export type { Answering } from "./in-flight.js";
export type { Outbox, OutboxOwner, Sink } from "./outbox.js";
export type { Authorize, AuthorizeRequest } from "./authorize.js";
export { allowAll } from "./authorize.js";
export type { Beating } from "./heartbeats.js";
// ./page-cursor.js, ./listing.js, ./list-encoder.js
export type { Egress, WatchRequest } from "./egress.js";

// The whole.
// ./listeners.js
export type { WatchOptions } from "./watch.js";
export type { RunContext, RunPlan, StageContext, Work } from "./run.js";
export type {
  MonitorEvents,
  MonitorStats,
  UpdateEvent,
  WorkflowMonitor,
  WorkflowMonitorOptions,
} from "./monitor.js";
export { createWorkflowMonitor } from "./monitor.js";
