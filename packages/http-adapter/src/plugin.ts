import { type WorkflowMonitor, WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyError, FastifyPluginAsync } from "fastify";
import { eventsRoute } from "./events.js";
import { listRoute } from "./list.js";
import { pollRoute } from "./poll.js";
import { sendProblem } from "./problem.js";
import { endSilentSockets } from "./silent-sockets.js";

export interface WorkflowMonitorHttpOptions {
  monitor: WorkflowMonitor;
  /** Default `/jobs`. Fastify's `prefix` goes before it. */
  path?: string;
}

/**
 * `GET /jobs/:id`, `GET /jobs/:id/events` and `GET /jobs` as a Fastify plugin. `app.close()` alone ends everything: the
 * monitor is drained before the server waits for its connections.
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

  pollRoute(app, monitor, path);
  eventsRoute(app, monitor, path);
  listRoute(app, monitor, path);
  endSilentSockets(app);
  app.addHook("preClose", () => monitor.drain());
};
