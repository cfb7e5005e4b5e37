import { type FlowJob, UnrecoverableError } from "bullmq";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../support/random.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { createWorld, type World } from "./given.js";

const FLOWS = 40;
const DEPTH = 3;
const FAILURE_OPTIONS = [
  "failParentOnFailure",
  "ignoreDependencyOnFailure",
  "removeDependencyOnFailure",
  "continueParentOnFailure",
] as const;

/** A flow of up to 40 jobs with any of BullMQ's options that matter. Ids are numbered by `nextId`. */
function anyFlow(random: Random, nextId: () => string, depth = DEPTH): FlowJob {
  const chance = (percent: number) => random.below(100) < percent;
  const id = nextId();
  const mood = random.pick(["fails", "fails once", "hopeless", ...Array(12).fill("works")]);
  const children = Array.from({ length: depth > 0 ? random.below(4) : 0 }, () =>
    anyFlow(random, nextId, depth - 1),
  );
  const isRoot = depth === DEPTH;
  return {
    ...{ name: id, data: { mood }, children },
    queueName: isRoot || chance(50) ? "work" : "far",
    opts: {
      jobId: id,
      attempts: 1 + random.below(3),
      ...(chance(30) && { backoff: 20 }),
      ...(chance(10) && { delay: 30 }),
      ...(chance(20) && { priority: 5 }),
      ...(!isRoot && { [random.pick(FAILURE_OPTIONS) as string]: true }),
      ...(!isRoot && chance(20) && { removeOnComplete: true }),
    },
  };
}

async function work(world: World, queue: string): Promise<void> {
  const process = async (job: { data: { mood: string }; attemptsMade: number }) => {
    const { mood } = job.data;
    if (mood === "hopeless") throw new UnrecoverableError("hopeless");
    if (mood === "fails" || (mood === "fails once" && job.attemptsMade === 0))
      throw new Error("no");
  };
  await world.worker(
    queue,
    async (job) => {
      await job.updateProgress(50);
      await process(job);
      await job.updateProgress({ progress: 90, message: "soon" });
    },
    { concurrency: 8 },
  );
}

/** The descendants of a flow, each with whether its parent, or theirs, may forget it before anybody looks. */
function descendants({ children = [] }: FlowJob, isForgotten = false): [FlowJob, boolean][] {
  return children.flatMap((child) => {
    const { removeDependencyOnFailure, removeOnComplete } = child.opts ?? {};
    const forgotten = isForgotten || removeDependencyOnFailure || removeOnComplete === true;
    return [[child, forgotten === true] as [FlowJob, boolean], ...descendants(child, forgotten)];
  });
}

describe.skipIf(withoutRedis)("whatever happens", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  test.each([1, 2, 3])("in the end the monitor says what BullMQ says (seed %i)", async (seed) => {
    const random = seededRandom(seed);
    const world = createWorld(redis);
    const admin = new Redis(redis.port);
    let ids = 0;
    let compared = 0;
    const roots: FlowJob[] = [];
    try {
      const { until, complaints } = world.watch({ mode: "flow", stageId: ({ id }) => id });
      for (const name of ["work", "far"]) await work(world, name);
      for (let count = 0; count < FLOWS; count++) {
        const root = anyFlow(random, () => `n${ids++}`);
        roots.push(root);
        await world.flows.add(root);
        if (random.below(10) > 0) continue;
        // An ear is cut off: it comes back, and what it missed is made up for.
        const lines = ((await admin.client("LIST")) as string).split("\n");
        const ear = random.pick(lines.filter((line) => line.includes(":qe ")));
        const id = /id=(\d+)/.exec(ear ?? "")?.[1];
        if (id) await admin.client("KILL", "ID", id);
      }

      for (const root of roots) {
        const id = root.opts?.jobId as string;
        const seen = await until(id, "is done", ({ done }) => done);
        const over = await world.queue("work").getJob(id);
        expect(`${id} ${seen.status}`).toBe(`${id} ${await over?.getState()}`);
        expect(seen.run).toBe(1);
        const stages = new Map(seen.stages.map(({ stage, status }) => [stage, status]));
        for (const status of stages.values()) expect(status).not.toMatch(/pending|running|waiting/);
        for (const [{ name, queueName }, isForgotten] of descendants(root)) {
          const job = await world.queue(queueName).getJob(name);
          // What went on after the root's end, or left no record, cannot be compared.
          if (!job?.finishedOn || job.finishedOn >= (over?.finishedOn ?? 0)) continue;
          if (isForgotten && !stages.has(name)) continue;
          expect(`${name} ${stages.get(name)}`).toBe(`${name} ${await job.getState()}`);
          compared += 1;
        }
      }
      expect(compared).toBeGreaterThan(FLOWS);
      expect(complaints.filter((each) => !each.includes("ECONN"))).toEqual([]);
    } finally {
      await admin.quit();
      await world.close();
    }
  });
});
