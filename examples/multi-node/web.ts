// A web node: serves the page and the viewers, and takes orders. It runs nothing and keeps nothing.
import { randomUUID } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { redisStore } from "@org/workflow-monitor-redis";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { FlowProducer } from "bullmq";
import Fastify from "fastify";
import { readFolder } from "../demo/folder.js";
import { servePage } from "../demo/page.js";
import { answerProblems, Problem } from "../demo/problem.js";
import { flowOf } from "./flow.js";
import { onStop, redis, redisUrl, reportConnection, reportOnce, tellReady } from "./process.js";

const { PORT, HOST = "127.0.0.1", RESULTS = join(tmpdir(), "inventories") } = process.env;

const store = redisStore({ url: redisUrl });
const monitor = createWorkflowMonitor({ authorize: allowAll, store });
const flows = new FlowProducer({ connection: { ...redis, enableOfflineQueue: false } });
flows.on("error", reportOnce());

const app = Fastify();
await app.register(workflowMonitorHttp, { monitor });
answerProblems(app);
await servePage(app);
attachWebSocket(app.server, { monitor });
app.get("/line", async () => ({})); // there is none: the page watches where it came from

app.post("/jobs", async ({ body }, reply) => {
  const { folder, name } = await readFolder(body);
  const jobId = randomUUID();
  await store.health?.().catch(() => {
    throw new Problem(503, "unavailable", "Redis is away: try again.");
  });
  // Whoever hands out a job id publishes first: the page that opens may come to another node.
  await monitor.publish({ type: "job", jobId, status: "pending" });
  await flows.add(flowOf({ jobId, name, folder, results: join(RESULTS, jobId) }));
  return reply.code(202).header("location", `/jobs/${jobId}`).send({ jobId });
});

app.get("/health", async (_request, reply) => {
  const isThere = await store.health?.().then(
    () => true,
    () => false,
  );
  return reply.code(isThere ? 204 : 503).send();
});

monitor.on("join", ({ viewer, jobId }) => console.log(`viewer ${viewer} of ${jobId} has come`));
monitor.on("leave", ({ viewer, jobId, code }) =>
  console.log(`viewer ${viewer} of ${jobId} has gone, ${code}`),
);
reportConnection(store);

onStop(async () => {
  await app.close();
  await monitor.close();
  await flows.close();
  await store.close();
});
await app.listen({ host: HOST, port: Number(PORT || 3_000) });
tellReady((app.server.address() as { port: number }).port);
