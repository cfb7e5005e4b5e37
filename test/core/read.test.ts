import {
  type Authorize,
  allowAll,
  createWorkflowMonitor,
  type JobBody,
  type JobStore,
  memoryStore,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";

const request = {
  jobId: "j",
  action: "watch",
  transport: "poll",
  headers: {},
  query: {},
  remoteAddress: undefined,
} as const;

const later = (store: JobStore): JobStore => ({
  ...store,
  read: async (...args) => store.read(...args),
});

function create(store: JobStore, authorize: Authorize = allowAll) {
  const monitor = createWorkflowMonitor({ store, authorize });
  onTestFinished(async () => {
    await monitor.close();
    await store.close();
  });
  return monitor;
}

describe("a poll", () => {
  test("is answered in the turn in which it comes, when store and hook answer at once", async () => {
    const { egress, publish } = create(memoryStore());
    expect(() => egress.read(request)).toThrow(expect.objectContaining({ code: "unknown_job" }));
    const { epoch } = await publish({ type: "job", jobId: "j", status: "running" });
    const first = egress.read(request) as JobBody;
    expect(first).toMatchObject({ etag: `"${epoch}.1"`, done: false });
    expect(JSON.parse(first.bytes.toString())).toMatchObject({ status: "running", revision: 1 });
    await publish({ type: "job", jobId: "j", status: "completed" });
    expect(egress.read(request)).toMatchObject({ etag: `"${epoch}.2"`, done: true });
  });

  test.each<[string, (store: JobStore) => JobStore, Authorize]>([
    ["the store", later, allowAll],
    ["the hook", (store) => store, async () => true],
    ["either", later, async () => true],
  ])("is answered alike when %s answers later", async (_name, wrap, authorize) => {
    const { egress, publish } = create(wrap(memoryStore()), authorize);
    await expect(egress.read(request)).rejects.toMatchObject({ code: "unknown_job" });
    const { epoch } = await publish({ type: "job", jobId: "j", status: "completed" });
    const body = egress.read(request);
    expect(body).toBeInstanceOf(Promise);
    expect(await body).toMatchObject({ etag: `"${epoch}.1"`, done: true });
  });

  test.each<[string, Authorize]>([
    ["at once", () => false],
    ["later", async () => false],
  ])(
    "of one who may not watch is of an unknown job, when the hook says so %s",
    async (_name, no) => {
      let asked = 0;
      const inner = memoryStore();
      const store: JobStore = {
        ...inner,
        read(...args) {
          asked += 1;
          return inner.read(...args);
        },
      };
      const { egress, publish } = create(store, no);
      await publish({ type: "job", jobId: "j", status: "running" });
      asked = 0;
      await expect((async () => egress.read(request))()).rejects.toMatchObject({
        code: "unknown_job",
      });
      expect(asked, "the store is not asked").toBe(0);
    },
  );

  test.each<[string, JobStore["read"]]>([
    [
      "throws",
      () => {
        throw new Error("secret address");
      },
    ],
    ["rejects", () => Promise.reject(new Error("secret address"))],
  ])("of a store that %s may be tried again", async (_name, read) => {
    const { egress } = create({ ...memoryStore(), read });
    await expect((async () => egress.read(request))()).rejects.toMatchObject({
      code: "unavailable",
      message: "The store does not answer: try again.",
    });
  });
});
