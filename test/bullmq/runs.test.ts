import { UnrecoverableError } from "bullmq";
import { describe, expect } from "vitest";
import { withoutRedis } from "../support/redis.js";
import { inWorlds, meanwhile, shorten, type World } from "./given.js";

describe.skipIf(withoutRedis)("runs and attempts", () => {
  const inWorld = inWorlds();

  /** A worker that fails as long as it is told to. */
  async function moody(world: World, stage = "crop") {
    const mood = { fails: true };
    await world.worker("work", async (job) => {
      await job.updateProgress({ stage, progress: 10 });
      if (mood.fails) throw new Error("boom");
    });
    return mood;
  }

  inWorld("tries of one job are attempts of the stages that it reports", async (world) => {
    await moody(world);
    const { until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j", attempts: 3 });
    const job = await until("j", "is done", ({ done }) => done);
    expect(job).toMatchObject({ status: "failed", run: 1, error: { message: "boom" } });
    expect(job.stages).toHaveLength(1);
    expect(job.stages[0]).toMatchObject({ stage: "crop", attempt: 3, status: "failed" });
    expect(job.stages[0]?.attempts.map(({ attempt, status }) => [attempt, status])).toEqual([
      [1, "failed"],
      [2, "failed"],
    ]);
  });

  inWorld("a retry by hand is a run of its own, numbered by its first try", async (world) => {
    const mood = await moody(world);
    const { until } = world.watch();
    const job = await world.queue().add("resize", {}, { jobId: "j", attempts: 3 });
    await until("j", "has failed", ({ done }) => done);
    await job.retry();
    const second = await until("j", "has failed again", ({ done, run }) => done && run > 1);
    expect(second).toMatchObject({ status: "failed", run: 4 });
    expect(second.stages[0]).toMatchObject({ attempt: 1, status: "failed" });
    mood.fails = false;
    await job.retry();
    const third = await until("j", "is done", ({ done, run }) => done && run > 4);
    expect(third).toMatchObject({ status: "completed", run: 5, error: null });
  });

  inWorld("a run that ends and one that begins, heard at once, are two", async (world) => {
    const { until, emitted } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    meanwhile(
      world,
      `
      const first = await worker.getNextJob("t");
      await first.updateProgress({ stage: "crop", progress: 10 });
      await first.moveToFailed(new Error("boom"), "t", false);
      await first.retry();
      const second = await worker.getNextJob("t");
      await second.updateProgress({ stage: "crop", progress: 20 });`,
    );
    await until("j", "is in its second run", ({ run, stages }) => run === 2 && stages.length === 1);
    expect(emitted.map(shorten)).toEqual([
      "job pending",
      "job running",
      "stage crop running 10 %",
      "stage crop failed !boom",
      "job failed !boom",
      "job of run 2 pending",
      "job of run 2 running",
      "stage of run 2 crop running 20 %",
    ]);
  });

  inWorld("a job that completed can be run again, and again", async (world) => {
    await world.worker("work", async () => {});
    const { until } = world.watch();
    const job = await world.queue().add("resize", {}, { jobId: "j", attempts: 5 });
    await until("j", "is done", ({ done }) => done);
    for (const run of [2, 3, 4]) {
      await job.retry("completed");
      await until("j", `is done in run ${run}`, (seen) => seen.done && seen.run === run);
    }
  });

  inWorld("a retry that makes BullMQ count anew is a run, too", async (world) => {
    const mood = await moody(world);
    const { until } = world.watch();
    const job = await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "has failed", ({ done }) => done);
    for (const run of [2, 3]) {
      await job.retry("failed", { resetAttemptsMade: true, resetAttemptsStarted: true });
      await until("j", `has failed in run ${run}`, (seen) => seen.done && seen.run === run);
    }
    mood.fails = false;
    await job.retry("failed", { resetAttemptsMade: true });
    const last = await until("j", "is done", ({ done, run }) => done && run === 4);
    expect(last.status).toBe("completed");
  });

  inWorld("a failure that must not be retried ends the job at once", async (world) => {
    await world.worker("work", async () => {
      throw new UnrecoverableError("hopeless");
    });
    const { until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j", attempts: 5 });
    const job = await until("j", "is done", ({ done }) => done);
    expect(job).toMatchObject({ status: "failed", run: 1, error: { message: "hopeless" } });
  });

  inWorld(
    "a source that comes later knows the run of a job whose tries were used up",
    async (world) => {
      const mood = await moody(world);
      const first = world.watch();
      const job = await world.queue().add("resize", {}, { jobId: "j", attempts: 2 });
      await first.until("j", "has failed", ({ done }) => done);
      await first.close();
      mood.fails = false;
      await job.retry();
      for (let state = ""; state !== "completed"; ) state = await job.getState();
      const later = world.watch();
      const seen = await later.until("j", "is done", ({ done }) => done);
      expect(seen).toMatchObject({ status: "completed", run: 3 });
    },
  );

  inWorld("an id that is used again is a new run each time", async (world) => {
    await world.worker("work", async () => {});
    const { until } = world.watch();
    for (const run of [1, 2, 3]) {
      await world.queue().add("resize", {}, { jobId: "j", removeOnComplete: true });
      await until("j", `is done in run ${run}`, (seen) => seen.done && seen.run === run);
    }
  });

  inWorld("a job that stalls too often fails", async (world) => {
    const { until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    const options = { autorun: false, lockDuration: 50, stalledInterval: 60, maxStalledCount: 0 };
    const dying = await world.worker("work", undefined as never, options);
    await dying.getNextJob("token");
    await until("j", "runs", ({ status }) => status === "running");
    await dying.startStalledCheckTimer();
    await until("j", "has stalled", ({ reason }) => reason === "stalled");
    await world.worker("work", async () => {});
    const job = await until("j", "is done", ({ done }) => done);
    expect(job.status).toBe("failed");
    expect(job.error?.message).toMatch(/stalled more than/);
  });
});
