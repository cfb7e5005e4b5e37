import type { Frame, JobSnapshot, PublishedEvent, Status } from "@org/workflow-monitor";
import { memoryStore, printCursor } from "@org/workflow-monitor";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Answer } from "../support/http.js";
import { eventsPath, startServer, type TestServer } from "../support/server.js";
import { until } from "../support/wait.js";

const JOB = "job";
const JOB_FIELDS = ["name", "reason", "message", "error", "labels", "metadata"] as const;
const STAGE_FIELDS = ["id", "name", "reason", "message", "error", "metadata"] as const;
const SHOWN_OF_JOB = [...JOB_FIELDS, "currentStage", "activeStages", "stages", "progress"] as const;
const SHOWN_OF_STAGE = [...STAGE_FIELDS, "stage", "dependsOn", "attempts", "status"] as const;

/** One event: what it is about, and which of its fields are filled with secrets. */
const step = fc.record({
  stage: fc.option(fc.nat(3), { nil: undefined }),
  status: fc.constantFrom<Status>("pending", "running", "waiting", "completed", "failed"),
  attempt: fc.constantFrom(undefined, undefined, 2, 3),
  jobFields: fc.subarray([...JOB_FIELDS], { minLength: 2 }),
  stageFields: fc.subarray([...STAGE_FIELDS], { minLength: 2 }),
});
const run = fc.record({
  steps: fc.array(step, { minLength: 3, maxLength: 10 }),
  dropped: fc.subarray([...SHOWN_OF_JOB], { minLength: 1 }),
  droppedOfStages: fc.subarray([...SHOWN_OF_STAGE], { minLength: 1 }),
});
type Run = typeof run extends fc.Arbitrary<infer T> ? T : never;

/** Texts that stand nowhere else, each of them different. */
function createSecrets() {
  const all: string[] = [];
  const secret = () => {
    all.push(`S${all.length}ECRET`);
    return all.at(-1) as string;
  };
  const values = {
    id: secret,
    name: secret,
    reason: secret,
    message: secret,
    error: () => Object.assign(new Error(secret()), { code: secret() }),
    labels: () => ({ [secret()]: secret() }),
    metadata: () => ({ [secret()]: [secret(), { deep: secret() }] }),
  };
  const fill = (fields: readonly (keyof typeof values)[]) =>
    Object.fromEntries(fields.map((field) => [field, values[field]()]));
  return { all, secret, fill };
}

const without = (fields: readonly string[], object: object): object =>
  Object.fromEntries(Object.entries(object).filter(([key]) => !fields.includes(key)));

/** Everything that viewers of the job get from now on, whatever brings it, as it comes over the wire. */
async function watchEverywhere(server: TestServer) {
  const { monitor } = server;
  const viewers = [await server.watch(JOB), await server.watch(JOB, { mode: "delta" })];
  const streams = [await server.stream(JOB), await server.stream(JOB, { mode: "delta" })];
  const frames: Frame[] = [];
  const watched = (async () => {
    for await (const frame of monitor.watch(JOB)) frames.push(frame);
  })();
  await until("the watch has begun", () => frames.length > 0);
  return async function read(): Promise<Buffer[]> {
    const closes = await Promise.all(
      viewers.map(async (viewer) => {
        await viewer.readToEnd();
        return Buffer.from(JSON.stringify(await viewer.closed));
      }),
    );
    for (const stream of streams) expect(await stream.ended).toBe("complete");
    await watched;
    return [
      ...viewers.flatMap(({ payloads }) => payloads),
      ...closes,
      ...streams.flatMap(({ raw, headers }) => [raw, Buffer.from(JSON.stringify(headers))]),
      ...frames.map((frame) => Buffer.from(JSON.stringify(frame))),
    ];
  };
}

const bytesOf = ({ status, headers, body }: Answer): Buffer[] => {
  expect(status).toBe(200);
  return [Buffer.from(JSON.stringify(headers)), body];
};

/** What polls and lists answer now, and what they bring who comes back with a cursor. */
async function askEverywhere(server: TestServer, after: string): Promise<Buffer[]> {
  const answers = await Promise.all([
    server.poll(JOB),
    server.get(`/jobs/${JOB}?wait=20`, { "if-none-match": `"${after}"` }),
    server.get(eventsPath(JOB, { after })),
    server.get(eventsPath(JOB, { after, wait: "20" })),
    server.get("/jobs"),
  ]);
  const viewer = await server.watch(JOB, { after });
  await viewer.expect("snapshot");
  const stream = await server.stream(JOB, {}, { "last-event-id": after });
  await stream.expect("snapshot");
  return [...answers.flatMap(bytesOf), ...viewer.payloads, stream.raw];
}

async function play({ steps, dropped, droppedOfStages }: Run) {
  const shapes: string[] = [];
  const present = (job: JobSnapshot) => {
    const stages = job.stages.map((stage) => without(droppedOfStages, stage));
    const shape = without(dropped, { ...job, stages });
    shapes.push(JSON.stringify(shape));
    return shape;
  };
  const store = memoryStore();
  const server = await startServer({ present, store });
  /** Knows the log only from what the store has kept. */
  const late = await startServer({ present, store });
  const { all, secret, fill } = createSecrets();
  const ids = [secret(), secret(), secret(), secret()];

  const stages = ids.map((stage, at) => ({
    stage,
    dependsOn: ids.slice(0, at),
    ...fill(["name"]),
  }));
  const plan = { type: "plan", jobId: JOB, stages, ...fill(["name", "labels", "metadata"]) };
  const first = await server.monitor.publish(plan as PublishedEvent);
  const read = await watchEverywhere(server);
  for (const { stage: at, status, attempt, jobFields, stageFields } of steps) {
    const about =
      at === undefined
        ? { type: "job", ...fill(jobFields) }
        : { type: "stage", stage: ids[at], status, attempt, ...fill(stageFields) };
    await server.monitor.publish({ ...about, jobId: JOB } as PublishedEvent);
  }
  const end = { type: "job", jobId: JOB, ...fill(["message"]) };
  const last = await server.monitor.publish(end as PublishedEvent);
  expect(last.revision).toBeGreaterThan(first.revision);
  const after = printCursor(first);
  const wire = await askEverywhere(server, after);
  await server.monitor.publish({ ...end, status: "failed", ...fill(["error"]) } as PublishedEvent);
  wire.push(...(await read()), ...(await askEverywhere(late, after)));

  const sent = Buffer.concat(wire).toString();
  const shown = shapes.join();
  const isShown = (text: string) => shown.includes(text);
  return {
    leaked: all.filter((text) => !isShown(text) && sent.includes(text)),
    withheld: all.filter((text) => !isShown(text) && !sent.includes(text)),
    delivered: all.filter((text) => isShown(text) && sent.includes(text)),
  };
}

test("[S6] [R16] nothing that a shape leaves out reaches a viewer, whatever the transport", {
  timeout: 60_000,
}, async () => {
  const seen = { withheld: 0, delivered: 0 };
  await fc.assert(
    fc.asyncProperty(run, async (given) => {
      const { leaked, withheld, delivered } = await play(given);
      expect(leaked).toEqual([]);
      seen.withheld += withheld.length;
      seen.delivered += delivered.length;
    }),
    { numRuns: 20, seed: 20_261_129 },
  );
  expect(seen.withheld).toBeGreaterThan(300);
  expect(seen.delivered).toBeGreaterThan(300);
});
