import { createServer } from "node:http";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { fastify } from "fastify";
import { JOB_ID, monitorWithJob, updateEvent } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** The monitor, its embedded store and the WebSocket adapter, as a host sets them up. */
export async function ours(): Promise<Subject> {
  return onWebSocket("");
}

export async function oursDelta(): Promise<Subject> {
  return onWebSocket("&mode=delta");
}

async function onWebSocket(query: string): Promise<Subject> {
  const monitor = await monitorWithJob();
  const server = createServer();
  attachWebSocket(server, { monitor });
  return {
    listen: () => listen(server, `/ws?jobId=${JOB_ID}${query}`, "frames"),
    update(n) {
      void monitor.publish(updateEvent(n));
    },
  };
}

/** The same with the HTTP adapter, which streams to those who accept `text/event-stream`. */
export async function oursSse(): Promise<Subject> {
  const monitor = await monitorWithJob();
  const app = fastify();
  await app.register(workflowMonitorHttp, { monitor });
  await app.ready();
  return {
    listen: () => listen(app.server, `/jobs/${JOB_ID}/events`, "sse"),
    update(n) {
      void monitor.publish(updateEvent(n));
    },
  };
}
