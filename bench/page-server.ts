import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { allowAll, createWorkflowMonitor, type PublishedEvent } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { fastify } from "fastify";
import { answer } from "./child.js";
import type { PageServerCalls } from "./messages.js";

/** A host with a page: the monitor, both adapters, and the page's files. */

const HTML = `<!doctype html><html lang="en"><meta charset="utf-8"><title>bench</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">
<script type="module" src="/page.js"></script><body></body></html>`;
const CSS = `body { display: grid; gap: 1rem; max-width: 64rem; margin: 1.5rem auto; }`;

const monitor = createWorkflowMonitor({ authorize: allowAll });
let jobs = 0;
let updates = 0;
let publishing: { stop(): void; done: Promise<unknown> } | undefined;

const nameOf = (at: number): string => `stage ${at + 1}`;
/** In the middle of a job, two stages run, or one of fifty. */
const runningOf = (stages: number) => ({
  from: Math.floor(stages / 2),
  count: Math.max(2, stages / 50),
});

/** A job of that many stages in layers: the first half is completed, and some run. */
function beginning(jobId: string, stages: number): PublishedEvent[] {
  const width = Math.max(3, Math.round(Math.sqrt(stages) / 1.6));
  const { from, count } = runningOf(stages);
  const plan: PublishedEvent = {
    type: "plan",
    jobId,
    name: `A job of ${stages} stages`,
    stages: Array.from({ length: stages }, (_, at) => {
      const layer = Math.floor(at / width);
      const before = [at % width, (at * 7 + layer) % width].map(
        (place) => (layer - 1) * width + place,
      );
      return {
        stage: nameOf(at),
        dependsOn: layer === 0 ? [] : [...new Set(before)].map(nameOf),
      };
    }),
  };
  const told = Array.from({ length: from + count }, (_, at) => {
    const stage = { type: "stage", jobId, stage: nameOf(at) } as const;
    const running = { ...stage, status: "running" } as const;
    return at < from ? [running, { ...stage, status: "completed" } as const] : [running];
  });
  return [plan, ...told.flat()];
}

answer<PageServerCalls>({
  async listen(directory) {
    const app = fastify();
    await app.register(workflowMonitorHttp, { monitor });
    attachWebSocket(app.server, { monitor });
    app.get("/", async (_, reply) => reply.type("text/html").send(HTML));
    app.get("/page.css", async (_, reply) => reply.type("text/css").send(CSS));
    app.get<{ Params: { file: string } }>("/:file.js", async ({ params }, reply) => {
      const script = await readFile(join(directory, `${params.file}.js`));
      return reply.type("text/javascript").send(script);
    });
    await app.listen({ host: "127.0.0.1", port: 0 });
    return (app.server.address() as AddressInfo).port;
  },

  async open(stages) {
    jobs += 1;
    const jobId = `job-${jobs}`;
    for (const event of beginning(jobId, stages)) await monitor.publish(event);
    return jobId;
  },

  async start(jobId, stages, perSecond) {
    const { from, count } = runningOf(stages);
    let over = false;
    const begun = performance.now();
    let sent = 0;
    const run = async () => {
      while (!over) {
        await sleep(1);
        for (const due = ((performance.now() - begun) * perSecond) / 1_000; sent < due; sent++) {
          updates += 1;
          await monitor.publish({
            type: "stage",
            jobId,
            stage: nameOf(from + (sent % count)),
            message: `${String(updates).padStart(7, "0")} rows of this night imported`,
            progress: Math.min(99, Math.floor(sent / perSecond) * 5),
          });
        }
      }
    };
    publishing = { stop: () => (over = true), done: run() };
  },

  async stop(jobId) {
    publishing?.stop();
    await publishing?.done;
    const { refused } = monitor.stats();
    if (refused > 0) throw new Error(`${refused} events were refused.`);
    return (await monitor.get(jobId))?.revision ?? 0;
  },

  async end(jobId) {
    await monitor.publish({ type: "job", jobId, status: "completed" });
  },
});
