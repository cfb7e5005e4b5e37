import { createServer } from "node:http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { monitorWithJob, updateEvent } from "../payload.js";
import type { Subject } from "./subject.js";

/** The monitor, its embedded store and the WebSocket adapter, as a host sets them up. */
export async function ours(): Promise<Subject> {
  const monitor = await monitorWithJob();
  const server = createServer();
  attachWebSocket(server, { monitor });
  return {
    server,
    update(n) {
      void monitor.publish(updateEvent(n));
    },
  };
}
