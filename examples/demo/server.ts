// The demo: POST /jobs takes an inventory of a folder of this checkout, and the page at / shows how far it is.
import { randomUUID } from "node:crypto";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { readFolder } from "./folder.js";
import { takeInventory } from "./inventory.js";
import { type Line, startLine } from "./line.js";
import { servePage } from "./page.js";
import { answerProblems, Problem } from "./problem.js";
import { createQueue } from "./queue.js";

const queue = createQueue({ running: 2, waiting: 100 });
const stopping = new AbortController();

const monitor = createWorkflowMonitor({ authorize: allowAll }); // only this machine gets at it
const app = Fastify();
await app.register(workflowMonitorHttp, { monitor }); // GET /jobs, GET /jobs/:id, GET /jobs/:id/events
answerProblems(app);

// ── the page ─────────────────────────────────────────────────────────────────────────────────────

await servePage(app, { connectsTo: ["http://127.0.0.1:*", "ws://127.0.0.1:*"] });

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
  const { folder, name } = await readFolder(body);
  if (queue.full) throw new Problem(503, "overloaded", "Too many inventories wait: try again.");

  const jobId = randomUUID();
  // Whoever hands out a job id publishes first: its viewers may be faster than its work.
  const published = monitor.publish({ type: "job", jobId, status: "pending" });
  queue.add(async () => {
    await published;
    await takeInventory(monitor, jobId, { name, folder, signal: stopping.signal });
  });
  await published;
  return reply.code(202).header("location", `/jobs/${jobId}`).send({ jobId });
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
line = await startLine([{ host: "127.0.0.1", port: Number(port) }]);
origins.push(url, `http://localhost:${port}`);
attachWebSocket(app.server, { monitor, origins }); // ws://…/ws

console.log(url);
