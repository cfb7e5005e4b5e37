// The demo: POST /jobs takes an inventory of a folder of this checkout, and the page at / shows how far it is.
import { randomUUID } from "node:crypto";
import { realpath } from "node:fs/promises";
import { STATUS_CODES } from "node:http";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify, { type FastifyError } from "fastify";
import { takeInventory } from "./inventory.js";
import { type Line, startLine } from "./line.js";
import { bundlePage } from "./page.js";
import { resolveInside } from "./paths.js";
import { createQueue } from "./queue.js";

const root = await realpath(fileURLToPath(new URL("../..", import.meta.url)));
const queue = createQueue({ running: 2, waiting: 100 });
const stopping = new AbortController();

const monitor = createWorkflowMonitor({ authorize: allowAll }); // only this machine gets at it
const app = Fastify();
await app.register(workflowMonitorHttp, { monitor }); // GET /jobs, GET /jobs/:id, GET /jobs/:id/events

// ── the page ─────────────────────────────────────────────────────────────────────────────────────

const POLICY =
  "default-src 'self'; connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*; img-src data:";

for (const [path, { type, body }] of await bundlePage()) {
  app.get(path, async (_request, reply) => {
    reply.header("content-security-policy", POLICY);
    return reply.type(`${type}; charset=utf-8`).send(body);
  });
}

// ── the line: the page watches through a proxy, which it may cut ─────────────────────────────────

let line: Line | undefined;
const lineState = () => line && { url: `http://127.0.0.1:${line.port}`, isUp: line.isUp };

app.get("/line", async () => lineState());

app.put("/line", async ({ body }) => {
  const { isUp } = (body ?? {}) as { isUp?: unknown };
  if (typeof isUp !== "boolean") {
    throw new Problem(400, "bad_request", 'The body must be JSON, as { "isUp": false }.');
  }
  line?.set(isUp);
  return lineState();
});

/** The page's own origins: to a browser, the line is another. */
const origins: string[] = [];

app.addHook("onRequest", async ({ headers: { origin } }, reply) => {
  if (origin === undefined || !origins.includes(origin)) return;
  reply.headers({
    "access-control-allow-origin": origin,
    "access-control-expose-headers": "retry-after",
  });
});

// ── the jobs ─────────────────────────────────────────────────────────────────────────────────────

app.post("/jobs", async ({ body }, reply) => {
  const folder = await resolveInside(root, readPath(body));
  if (folder === undefined) {
    throw new Problem(403, "forbidden", "Only folders of this checkout are inventoried.");
  }
  if (queue.full) throw new Problem(503, "overloaded", "Too many inventories wait: try again.");

  const jobId = randomUUID();
  // Whoever hands out a job id publishes first: its viewers may be faster than its work.
  const published = monitor.publish({ type: "job", jobId, status: "pending" });
  queue.add(async () => {
    await published;
    const name = `Inventory of ${relative(root, folder) || "the checkout"}`;
    await takeInventory(monitor, jobId, { name, folder, signal: stopping.signal });
  });
  await published;
  return reply.code(202).header("location", `/jobs/${jobId}`).send({ jobId });
});

/** The path in `{ "path"?: string }`. */
function readPath(body: unknown): string {
  const isObject = typeof body === "object" && body !== null && !Array.isArray(body);
  const { path = "node_modules", ...others } = (isObject ? body : { body }) as { path?: unknown };
  if (typeof path === "string" && path.length <= 4_096 && !path.includes("\0")) {
    if (Object.keys(others).length === 0) return path;
  }
  throw new Problem(400, "bad_request", 'The body must be JSON, as { "path": "node_modules" }.');
}

// ── what goes wrong: RFC 9457 ────────────────────────────────────────────────────────────────────

class Problem extends Error {
  readonly statusCode: number;
  readonly code: string;

  constructor(statusCode: number, code: string, message: string) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
  }
}

app.setErrorHandler((error: FastifyError, _request, reply) => {
  const { statusCode: status = 500, code, message } = error;
  const isOurs = error instanceof Problem;
  if (status === 503) reply.header("retry-after", 5);
  return reply
    .code(status)
    .type("application/problem+json")
    .send({
      type: "about:blank",
      title: STATUS_CODES[status],
      status,
      detail: isOurs || status < 500 ? message : "The request failed.",
      code: isOurs ? code : status < 500 ? "bad_request" : "internal",
    });
});

// ── from the first request to the last ───────────────────────────────────────────────────────────

async function close(): Promise<void> {
  stopping.abort();
  await queue.idle(); // what runs is cancelled, and its viewers see that
  await app.close();
  await line?.close();
  await monitor.close();
}

process.once("SIGINT", () => void close());
process.once("SIGTERM", () => void close());

const url = await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT || 3_000) });
const { port } = new URL(url);
line = await startLine(Number(port));
origins.push(url, `http://localhost:${port}`);
attachWebSocket(app.server, { monitor, origins }); // ws://…/ws

console.log(url);
