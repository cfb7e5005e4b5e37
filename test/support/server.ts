import type { OutgoingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import {
  allowAll,
  type Cursor,
  createEngine,
  createWorkflowMonitor,
  type Engine,
  type Logger,
  type Mode,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket, type WebSocketAdapter } from "@org/workflow-monitor-ws";
import Fastify, { type FastifyInstance } from "fastify";
import { onTestFinished } from "vitest";
import { type EventStream, openStream } from "./event-stream.js";
import { type Answer, httpGet } from "./http.js";
import { connect, type Viewer } from "./viewer.js";
import { inTime } from "./wait.js";

export interface LogLine {
  level: keyof Logger;
  context: Record<string, unknown>;
  message: string;
}

/** A logger that keeps its lines. */
export function recorder(): { logger: Logger; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: keyof Logger) => (context: Record<string, unknown>, message: string) => {
    lines.push({ level, context, message });
  };
  const logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { logger, lines };
}

export interface ServerOptions extends Partial<WorkflowMonitorOptions> {
  origins?: readonly string[];
  /** Called before the plugin is registered: a host's own hooks. */
  prepare?: (app: FastifyInstance) => void;
}

interface WatchQuery {
  after?: string;
  mode?: Mode;
}

export interface TestServer {
  readonly engine: Engine;
  readonly monitor: WorkflowMonitor;
  readonly app: FastifyInstance;
  readonly adapter: WebSocketAdapter;
  readonly port: number;
  readonly lines: LogLine[];
  wsUrl(jobId: string, query?: Record<string, string>): string;
  /** Opens a viewer; resolves when it is connected. */
  watch(jobId: string, query?: WatchQuery): Promise<Viewer>;
  /** Opens an event stream; resolves when the answer has begun, rejects when it is no stream. */
  stream(jobId: string, query?: WatchQuery, headers?: OutgoingHttpHeaders): Promise<EventStream>;
  get(path: string, headers?: OutgoingHttpHeaders): Promise<Answer>;
  poll(jobId: string, headers?: OutgoingHttpHeaders): Promise<Answer>;
  /** The job's head, when everything that was emitted of it so far is stored and announced. */
  settled(jobId: string): Promise<Cursor>;
}

/** The path of a job's events, as JSON or as a stream. */
export function eventsPath(jobId: string, query: Record<string, string> | WatchQuery = {}): string {
  const search = new URLSearchParams({ ...query }).toString();
  return `/jobs/${encodeURIComponent(jobId)}/events${search && `?${search}`}`;
}

/** Fastify, both adapters, an engine and a monitor on a port of their own; closed at the end of the test. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const { origins, prepare, ...monitorOptions } = options;
  const { logger, lines } = recorder();
  const engine = createEngine();
  const monitor = createWorkflowMonitor({ authorize: allowAll, logger, ...monitorOptions });
  monitor.attach(engine);
  const app = Fastify();
  prepare?.(app);
  await app.register(workflowMonitorHttp, { monitor });
  const adapter = attachWebSocket(app.server, { monitor, ...(origins && { origins }) });
  onTestFinished(async () => {
    await inTime("app.close()", app.close(), 10_000);
    await inTime("monitor.close()", monitor.close(), 10_000);
  });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = app.server.address() as AddressInfo;

  const wsUrl = (jobId: string, query: Record<string, string> = {}) =>
    `ws://127.0.0.1:${port}/ws?${new URLSearchParams({ jobId, ...query })}`;
  const get: TestServer["get"] = (path, headers) => httpGet(port, path, headers);

  return {
    engine,
    monitor,
    app,
    adapter,
    port,
    lines,
    wsUrl,
    get,
    stream: (jobId, query, headers) => openStream(port, eventsPath(jobId, query), headers),
    async watch(jobId, query) {
      const viewer = connect(wsUrl(jobId, { ...query }));
      await inTime("the handshake", viewer.opened);
      return viewer;
    },
    poll: (jobId, headers) => get(`/jobs/${encodeURIComponent(jobId)}`, headers),
    // A job's queue is first in, first out; an event that says nothing changes nothing.
    settled: (jobId) => monitor.publish({ type: "job", jobId }),
  };
}
