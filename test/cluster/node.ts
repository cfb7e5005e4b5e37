import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { redisStore } from "@org/workflow-monitor-redis";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { answer } from "../../bench/child.js";
import { fileLogger } from "./log.js";
import { type Opening, TIMEOUT_MS } from "./settings.js";

/** A process that serves viewers, and publishes nothing. */
export type NodeCalls = {
  /** Resolves to its port; 0: any. */
  open(opening: Opening & { port: number }): Promise<number>;
};

answer<NodeCalls>({
  async open({ redis, log, port }) {
    const logger = fileLogger(log);
    const store = redisStore({ url: redis, timeoutMs: TIMEOUT_MS, logger });
    const monitor = createWorkflowMonitor({
      authorize: allowAll,
      store,
      logger,
      heartbeatMs: 1_000,
      lingerMs: 500,
    });
    const app = Fastify();
    await app.register(workflowMonitorHttp, { monitor });
    attachWebSocket(app.server, { monitor });
    return Number(new URL(await app.listen({ port, host: "127.0.0.1" })).port);
  },
});
