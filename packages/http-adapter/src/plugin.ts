import { type WorkflowMonitor, WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyError, FastifyPluginAsync } from "fastify";
import { closeConnections } from "./closing.js";
import { Connections } from "./connections.js";
import { eventsRoute } from "./events.js";
import { listRoute } from "./list.js";
import { pollRoute } from "./poll.js";
import { sendProblem } from "./problem.js";

export interface WorkflowMonitorHttpOptions {
  monitor: WorkflowMonitor;
  /** Default `/jobs`. Fastify's `prefix` goes before it. */
  path?: string;
}

/**
 * `GET /jobs/:id`, `GET /jobs/:id/events` and `GET /jobs` as a Fastify plugin. `app.close()` alone ends everything: the
 * monitor is drained before the server waits for its connections, and a second later nothing of these routes is left.
 * Requests of the host's that have arrived completely are left to the host; connections that are silent, idle or
 * stopped in the middle of a request are ended.
 */
export const workflowMonitorHttp: FastifyPluginAsync<WorkflowMonitorHttpOptions> = async (
  app,
  { monitor, path = "/jobs" },
) => {
  app.setErrorHandler((error: FastifyError | WorkflowMonitorError, _request, reply) => {
    if (error.name === "WorkflowMonitorError")
      return sendProblem(reply, error as WorkflowMonitorError);
    if (!("validation" in error && error.validation)) throw error; // of a hook of the host: his to answer
    return sendProblem(reply, new WorkflowMonitorError("bad_request", error.message));
  });

  const connections = new Connections(monitor.egress);
  pollRoute(app, monitor, path, connections);
  eventsRoute(app, monitor, path, connections);
  listRoute(app, monitor, path, connections);
  closeConnections(app, connections, () => monitor.drain());
};
