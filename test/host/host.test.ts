import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import swagger from "@fastify/swagger";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import Fastify from "fastify";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";

function newMonitor(options: Partial<Parameters<typeof createWorkflowMonitor>[0]> = {}) {
  const monitor = createWorkflowMonitor({ authorize: allowAll, ...options });
  onTestFinished(() => monitor.close());
  return monitor;
}

test("@fastify/swagger shows the routes with their schemas", async () => {
  const app = Fastify();
  onTestFinished(() => app.close());
  await app.register(swagger, { openapi: { info: { title: "jobs", version: "1" } } });
  await app.register(workflowMonitorHttp, { monitor: newMonitor(), prefix: "/api", path: "/runs" });
  await app.ready();

  const { paths } = app.swagger() as { paths: Record<string, { get: Record<string, unknown> }> };
  expect(Object.keys(paths)).toEqual(expect.arrayContaining(["/api/runs/{id}", "/api/runs"]));
  const job = paths["/api/runs/{id}"]?.get;
  expect(job).toMatchObject({
    summary: "A job as it is now",
    parameters: [
      { in: "query", name: "wait" },
      { in: "path", name: "id" },
    ],
    responses: {
      200: {
        content: { "application/json": { schema: { properties: { status: {}, stages: {} } } } },
      },
      "4XX": { content: { "application/json": { schema: { properties: { code: {} } } } } },
    },
  });
  const list = paths["/api/runs"] as unknown as { get: { parameters: { name: string }[] } };
  expect(list.get.parameters.map(({ name }) => name).sort()).toEqual([
    "cursor",
    "label",
    "limit",
    "status",
  ]);
});

test("the list is served as the schema says, field by field", async () => {
  const app = Fastify();
  onTestFinished(() => app.close());
  const monitor = newMonitor();
  await app.register(workflowMonitorHttp, { monitor });
  await monitor.publish({
    type: "plan",
    jobId: "42",
    name: "A job",
    stages: [{ stage: "a" }],
    labels: { team: "x" },
    metadata: { deep: [{ n: 1.5 }, null] },
  });
  await monitor.publish({ type: "stage", jobId: "42", stage: "a", status: "failed", error: "no" });
  const { stages: _, ...summary } = (await monitor.get("42")) ?? { stages: [] };
  const page = await app.inject("/jobs?label=team:x&status=failed");
  expect(page.json()).toEqual({ jobs: [summary], next: null });
});

test("pino fits as the logger", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  stream.on("data", (line: Buffer) => lines.push(line.toString()));
  const monitor = newMonitor({ logger: pino(stream) });
  await expect(monitor.publish({ type: "job", jobId: "" })).rejects.toMatchObject({
    code: "refused",
  });
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({
    level: 40,
    code: "refused",
    msg: "event refused or shortened",
  });
});

test("app.log fits as the logger", () => {
  const app = Fastify({ logger: { level: "silent" } });
  onTestFinished(() => app.close());
  newMonitor({ logger: app.log });
});

test("any emitter with the same events is an engine", async () => {
  const monitor = newMonitor();
  const engine = new EventEmitter();
  const detach = monitor.attach(engine);
  engine.emit("stage", { jobId: "42", stage: "a", status: "running" });
  await monitor.publish({ type: "job", jobId: "42" });
  expect((await monitor.get("42"))?.currentStage).toBe("a");
  detach();
  expect(engine.eventNames()).toEqual([]);
});

test("options that cannot work are refused at once", () => {
  const create = (options: object) => () =>
    createWorkflowMonitor({ authorize: allowAll, ...options } as never);
  expect(create({ authorize: undefined })).toThrow(/authorize/);
  expect(create({ retainMs: -1 })).toThrow(/retainMs/);
  expect(create({ heartbeatMs: Number.NaN })).toThrow(/heartbeatMs/);
  expect(create({ limits: { jobs: 0 } })).toThrow(/limits\.jobs/);
  expect(create({ limits: { nonsense: 1 } })).toThrow(/limits\.nonsense/);
  expect(create({ presentVersion: 'a"b' })).toThrow(/presentVersion/);
});
