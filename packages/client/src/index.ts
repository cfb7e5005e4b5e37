export type { ClientErrorCode, ClientErrorDetails } from "./errors.js";
export { MonitorClientError } from "./errors.js";
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
