export type { WorkflowMonitorHttpOptions } from "./plugin.js";
export { workflowMonitorHttp } from "./plugin.js";
