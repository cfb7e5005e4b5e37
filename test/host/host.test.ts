import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { createGzip, gunzipSync } from "node:zlib";
import swagger from "@fastify/swagger";
import { allowAll, createWorkflowMonitor, type JobStore, memoryStore } from "@org/workflow-monitor";
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
      { in: "path", name: "id", required: true, schema: { type: "string" } },
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

test.each<[string, (store: JobStore) => JobStore]>([
  ["at once", (store) => store],
  ["later", (store) => ({ ...store, read: async (...args) => store.read(...args) })],
])("the hooks of the host see polls that are answered %s", async (_name, wrap) => {
  const store = wrap(memoryStore());
  let asked = 0;
  const authorize = ({ headers }: { headers: object }) => {
    asked += 1;
    return "cookie" in headers;
  };
  const monitor = newMonitor({ store, authorize });
  const { epoch } = await monitor.publish({ type: "job", jobId: "42", status: "running" });
  const app = Fastify();
  onTestFinished(() => app.close());
  app.addHook("onRequest", async (_request, reply) => {
    reply.header("access-control-allow-origin", "https://example.org");
  });
  app.addHook("preHandler", (request, reply, done) => {
    if (request.headers.authorization === "bad") void reply.code(401).send({ error: "no" });
    else done();
  });
  app.addHook("onSend", async (request, reply, payload) => {
    if (payload === undefined || !request.headers["accept-encoding"]) return payload;
    reply.header("content-encoding", "gzip").removeHeader("content-length");
    const gzip = createGzip();
    gzip.end(payload);
    return gzip;
  });
  await app.register(workflowMonitorHttp, { monitor });
  const poll = (headers: Record<string, string>) =>
    app.inject({ url: "/jobs/42", headers: { cookie: "a=b", ...headers } });

  const common = {
    "access-control-allow-origin": "https://example.org",
    etag: `"${epoch}.1"`,
    "cache-control": "private, no-cache",
    vary: "Authorization, Cookie",
    "retry-after": "2",
  };
  const own = ({ headers: { date, connection, ...headers } }: Awaited<ReturnType<typeof poll>>) =>
    headers;
  const plain = await poll({});
  expect(plain.statusCode).toBe(200);
  expect(own(plain)).toEqual({
    ...common,
    "content-type": "application/json; charset=utf-8",
    "content-length": String(plain.rawPayload.length),
  });
  const packed = await poll({ "accept-encoding": "gzip" });
  expect(packed.headers).toMatchObject({ ...common, "content-encoding": "gzip" });
  expect(gunzipSync(packed.rawPayload)).toEqual(plain.rawPayload);
  const unchanged = await poll({ "if-none-match": common.etag, "accept-encoding": "gzip" });
  expect(unchanged.statusCode).toBe(304);
  expect(unchanged.rawPayload.length).toBe(0);
  expect(own(unchanged)).toEqual(common);
  expect(asked).toBe(3);
  expect((await poll({ authorization: "bad" })).statusCode).toBe(401);
  expect(asked, "the host has answered").toBe(3);
  const refused = await app.inject("/jobs/42");
  expect(refused.statusCode).toBe(404);
  expect(own(refused)).toMatchObject({
    "access-control-allow-origin": "https://example.org",
    "content-type": "application/problem+json; charset=utf-8",
    "cache-control": "no-store",
  });
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
