export { applyPatch } from "@org/workflow-monitor/protocol";
export type {
  Cursor,
  Json,
  JobPatch,
  JobSnapshot,
  JobSummary,
  PublicError,
  StageAttempt,
  StageSnapshot,
  Status,
  WorkflowEvent,
} from "@org/workflow-monitor/protocol";
export type { MonitorClientOptions } from "./client.js";
export { createMonitorClient } from "./client.js";
export type { ClientErrorCode, ClientErrorDetails } from "./errors.js";
export { MonitorClientError } from "./errors.js";
export type { Fetch, Host, NetworkEvent, WebSocketConstructor, WebSocketLike } from "./host.js";
export type {
  ClientTransport,
  Connection,
  ConnectionState,
  JobPage,
  JobQuery,
  JobWatch,
  MonitorClient,
  WatchListeners,
  WatchOptions,
} from "./types.js";
