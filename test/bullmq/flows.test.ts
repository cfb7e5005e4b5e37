import type { FlowJob, Job } from "bullmq";
import { describe, expect } from "vitest";
import { withoutRedis } from "../support/redis.js";
import { inWorlds } from "./given.js";

describe.skipIf(withoutRedis)("flows", () => {
  const inWorld = inWorlds();

  const step = (name: string, ...children: FlowJob[]): FlowJob => ({
    ...{ name, queueName: "work", opts: { jobId: name } },
    children,
  });
  const brief = { mode: "flow", stageId: ({ id }: { id: string }) => id } as const;

  inWorld(
    "300 children under a tree of depth 3: every stage is told, in run order",
    async (world) => {
      const leaves = Array.from({ length: 300 }, (_, index) => step(`leaf-${index}`));
      await world.worker("work", async (job) => job.updateProgress(50), { concurrency: 20 });
      const { until, emitted, complaints } = world.watch(brief);
      await world.flows.add(step("root", step("half", ...leaves), step("other", step("alone"))));
      const job = await until("root", "is done", ({ done }) => done);

      expect(job.status).toBe("completed");
      expect(job.counts).toMatchObject({ total: 303, completed: 303 });
      const ids = job.stages.map(({ stage }) => stage);
      expect(new Set(ids).size).toBe(303);
      for (const { stage, dependsOn } of job.stages) {
        for (const before of dependsOn)
          expect(ids.indexOf(before)).toBeLessThan(ids.indexOf(stage));
      }
      expect(job.stages.find(({ stage }) => stage === "half")?.dependsOn).toHaveLength(300);
      expect(emitted.filter(({ type }) => type === "plan")).toHaveLength(1);
      // A leaf runs, reports and completes; the three parents also wait. Nothing is said again and again.
      expect(emitted.length).toBeLessThanOrEqual(1 + 300 * 3 + 3 * 5 + 3);
      expect(complaints).toEqual([]);
    },
  );

  inWorld("a flow that is deeper than BullMQ's getFlow looks", async (world) => {
    let tree = step("level-15");
    for (let level = 14; level > 0; level--) tree = step(`level-${level}`, tree);
    await world.worker("work", async () => {});
    const { until } = world.watch(brief);
    await world.flows.add(step("root", tree));
    const job = await until("root", "is done", ({ done }) => done);
    expect(job.stages.map(({ stage, status }) => `${stage} ${status}`)).toEqual(
      Array.from({ length: 15 }, (_, index) => `level-${15 - index} completed`),
    );
  });

  inWorld("children in queues that are not named are stages like others", async (world) => {
    const order: string[] = [];
    const process = async (job: Job) => void order.push(job.name);
    await world.worker("far", process);
    await world.worker("farther", process);
    const { until } = world.watch({ mode: "flow" });
    await world.flows.add(
      step("root", {
        ...{ name: "there", queueName: "far", opts: { jobId: "x" } },
        children: [{ name: "beyond", queueName: "farther", opts: { jobId: "x" } }],
      }),
    );
    await until("root", "has its stages", ({ counts }) => counts.completed === 2);
    await world.worker("work", process);
    const job = await until("root", "is done", ({ done }) => done);
    expect(job.stages.map(({ stage, name, status }) => [stage, name, status])).toEqual([
      ["farther:x", "beyond", "completed"],
      ["far:x", "there", "completed"],
    ]);
    expect(order).toEqual(["beyond", "there", "root"]);
  });

  inWorld(
    "a child that is added to a queue which nobody named is found by a reconcile",
    async (world) => {
      const { until } = world.watch({ ...brief, reconcileMs: 100 });
      const { job: root } = await world.flows.add(step("root", step("first")));
      await until("root", "is there", ({ stages }) => stages.length === 1);
      const parent = { id: "root", queue: root.queueQualifiedName };
      await world.queue("far").add("late", {}, { jobId: "late", parent });
      await until("root", "has the late one", ({ stages }) => stages.length === 2);
      await world.worker("far", async () => {});
      await until("root", "has the late one done", ({ counts }) => counts.completed === 1);
    },
  );

  inWorld("children that are removed as they complete are completed stages", async (world) => {
    const { until } = world.watch(brief);
    const gone = (name: string, more = {}): FlowJob => ({
      ...{ name, queueName: "work" },
      opts: { jobId: name, removeOnComplete: true, ...more },
    });
    await world.flows.add(step("root", gone("a"), gone("b"), step("c", gone("d"))));
    await until("root", "is there", ({ stages }) => stages.length === 4);
    await world.worker("work", async () => {}, {
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    const job = await until("root", "is done", ({ done }) => done);
    expect(job.status).toBe("completed");
    expect(job.stages.map(({ status }) => status)).toEqual(Array(4).fill("completed"));
  });

  inWorld(
    "a source that comes late learns of removed children from their parent",
    async (world) => {
      const opts = { jobId: "a", removeOnComplete: true };
      await world.flows.add(step("root", { name: "a", queueName: "work", opts }, step("b")));
      const taker = await world.worker("work", undefined as never, { autorun: false });
      const first = (await taker.getNextJob("token")) as Job;
      await first.moveToCompleted("done", "token", false);
      const { until } = world.watch(brief);
      const job = await until("root", "has both", ({ stages }) => stages.length === 2);
      const byId = Object.fromEntries(job.stages.map(({ stage, status }) => [stage, status]));
      expect(byId).toEqual({ a: "completed", b: "pending" });
    },
  );

  inWorld(
    "a flow that is removed before it began is cancelled, its stages are skipped",
    async (world) => {
      const { until } = world.watch(brief);
      const { job: root } = await world.flows.add(step("root", step("a"), step("b", step("c"))));
      await until("root", "is there", ({ stages }) => stages.length === 3);
      await root.remove();
      const job = await until("root", "is done", ({ done }) => done);
      expect(job).toMatchObject({ status: "cancelled", reason: "removed" });
      expect(job.stages.map(({ status }) => status)).toEqual(Array(3).fill("skipped"));
    },
  );

  inWorld("a child that is taken out of its flow is a job of its own", async (world) => {
    const { until } = world.watch(brief);
    await world.flows.add(step("root", step("a"), step("b")));
    await until("root", "is there", ({ stages }) => stages.length === 2);
    await ((await world.queue().getJob("b")) as Job).removeChildDependency();
    await world.worker("work", async () => {});
    const own = await until("b", "is done", ({ done }) => done);
    expect(own.status).toBe("completed");
    const job = await until("root", "is done", ({ done }) => done);
    expect(job.status).toBe("completed");
    expect(job.stages.map(({ stage, status }) => `${stage} ${status}`)).toEqual([
      "a completed",
      "b cancelled",
    ]);
  });

  inWorld("of a flow whose root is in no named queue nothing is said", async (world) => {
    const { emitted, until } = world.watch(brief);
    await world.worker("work", async (job) => job.updateProgress(10));
    await world.worker("far", async () => {});
    await world.flows.add({ ...step("root", step("a"), step("b", step("c"))), queueName: "far" });
    await world.flows.add({ ...step("witness") });
    await until("witness", "is done", ({ done }) => done);
    const jobs = new Set(emitted.map(({ event }) => event.jobId));
    expect([...jobs]).toEqual(["witness"]);
  });

  inWorld("a failed child that is retried by hand lets its flow complete", async (world) => {
    let fails = true;
    await world.worker("work", async (job) => {
      if (job.name === "a" && fails) throw new Error("not yet");
    });
    const { until } = world.watch(brief);
    await world.flows.add(step("root", step("a"), step("b")));
    const stuck = await until("root", "is stuck", ({ reason }) => reason === "child_failed");
    expect(stuck).toMatchObject({ status: "waiting", done: false });
    fails = false;
    await ((await world.queue().getJob("a")) as Job).retry("failed", { resetAttemptsMade: true });
    const job = await until("root", "is done", ({ done }) => done);
    expect(job.status).toBe("completed");
    const stage = job.stages.find(({ stage }) => stage === "a");
    expect(stage).toMatchObject({ status: "completed", attempt: 2 });
    expect(stage?.attempts).toMatchObject([{ attempt: 1, status: "failed" }]);
  });

  inWorld(
    "a failed flow that is retried by hand is a new run, with the stages that are done",
    async (world) => {
      let fails = true;
      await world.worker("work", async (job) => {
        if (job.name === "root" && fails) throw new Error("not yet");
      });
      const { until, emitted } = world.watch(brief);
      const { job: root } = await world.flows.add(step("root", step("a"), step("b")));
      await until("root", "is done", ({ done }) => done);
      fails = false;
      await root.retry();
      const job = await until("root", "is done again", ({ done, run }) => done && run === 2);
      expect(job.status).toBe("completed");
      expect(job.stages.map(({ status }) => status)).toEqual(["completed", "completed"]);
      expect(emitted.filter(({ type }) => type === "plan").length).toBeLessThanOrEqual(2);
    },
  );

  inWorld("in mode job the jobs of a flow are jobs of their own", async (world) => {
    await world.worker("work", async () => {});
    const { until, emitted } = world.watch();
    await world.flows.add(step("root", step("a")));
    for (const id of ["root", "a"]) {
      expect((await until(id, "is done", ({ done }) => done)).status).toBe("completed");
    }
    expect(emitted.some(({ type }) => type === "plan")).toBe(false);
  });
});
