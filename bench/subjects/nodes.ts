import { createServer } from "node:http";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { advance, JOB_ID, monitorWithJob, type UpdateFrame, updateEvent } from "../payload.js";
import type { SocketIo } from "./socket-io.js";
import { listen, type Subject } from "./subject.js";

/** Web nodes that share a Redis, and what sends to their viewers. */

const storeOn = (redis: string | undefined) =>
  redisStore(redis === undefined ? {} : { url: redis });

export async function ours(_frame: UpdateFrame, redis?: string): Promise<Subject> {
  const monitor = createWorkflowMonitor({ authorize: allowAll, store: storeOn(redis) });
  const server = createServer();
  attachWebSocket(server, { monitor });
  return {
    listen: () => listen(server, `/ws?jobId=${JOB_ID}`, "frames"),
    update(n) {
      void monitor.publish(updateEvent(n));
    },
  };
}

/** Publishes, and serves nobody. */
export async function oursWorker(_frame: UpdateFrame, redis?: string): Promise<Subject> {
  const monitor = await monitorWithJob({ store: storeOn(redis) });
  const server = createServer();
  return {
    listen: () => listen(server, "/", "frames"),
    update(n) {
      void monitor.publish(updateEvent(n));
    },
  };
}

/** Likewise the little of the others that is used here. */
interface Adapter {
  createAdapter(client: unknown): unknown;
}
interface Client {
  Redis: new (url: string) => unknown;
}
const modules: string[] = ["socket.io", "@socket.io/redis-streams-adapter", "ioredis"];

/** One room on all nodes, one `emit` an update; WebSocket only, nothing compressed. */
export async function socketIo(frame: UpdateFrame, redis = ""): Promise<Subject> {
  const [io, adapter, client] = await Promise.all(modules.map((name) => import(name)));
  const { Server } = io as SocketIo;
  const { createAdapter } = adapter as Adapter;
  const { Redis } = client as Client;
  const server = createServer();
  const sockets = new Server(server, {
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
    adapter: createAdapter(new Redis(redis)),
  });
  sockets.on("connection", (socket) => socket.join(JOB_ID));
  return {
    listen: () => listen(server, "/socket.io/?EIO=4&transport=websocket", "socket.io"),
    update(n) {
      sockets.to(JOB_ID).emit("update", advance(frame, n));
    },
  };
}
