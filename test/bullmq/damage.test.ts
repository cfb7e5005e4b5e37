import { Redis } from "ioredis";
import { expect, describe as group } from "vitest";
import { type RedisServer, withoutRedis } from "../support/redis.js";
import { until as untilTrue } from "../support/wait.js";
import { inWorlds, type World } from "./given.js";

interface Scene {
  world: World;
  /** The key of a job, or of something else of the queue. */
  key(id: string): string;
  redis: Redis;
}

/** Ways to spoil one job, and what is complained of. */
const SCENES: [string, (scene: Scene) => Promise<unknown>, RegExp | undefined][] = [
  [
    "a parent that is the queue's event stream",
    ({ world }) => addChild(world, "child", "events"),
    /:work:events .*WRONGTYPE/,
  ],
  [
    "a parent that is the queue's counter",
    ({ world }) => addChild(world, "child", "id"),
    /:work:id .*WRONGTYPE/,
  ],
  [
    "a job's key that is a string",
    async ({ world, key, redis }) => {
      await world.queue().add("x", {}, { jobId: "x", delay: 1e6 });
      // With an event, since the source may have looked at it by now.
      await redis
        .multi()
        .del(key("x"))
        .set(key("x"), "1")
        .xadd(key("events"), "*", "event", "waiting", "jobId", "x")
        .exec();
    },
    /:work:x .*WRONGTYPE/,
  ],
  [
    "a parent whose list of children is a string",
    async ({ world, key, redis }) => {
      await redis.set(key("x:dependencies"), "1");
      await world.queue().add("x", {}, { jobId: "x", delay: 1e6 });
    },
    /:work:x:dependencies .*WRONGTYPE/,
  ],
  [
    "counters that are no counters",
    async ({ world, key, redis }) => {
      await world.queue().add("x", {}, { jobId: "x", delay: 1e6 });
      await redis.hset(key("x"), { atm: "1e999", ats: "-3", stc: "many", failedReason: "boom" });
      await redis.hset(key("x"), { opts: '{"attempts":1e300}', parent: "null" });
    },
    undefined,
  ],
  [
    "an event that is no JSON",
    ({ key, redis }) =>
      redis.xadd(key("events"), "*", "event", "progress", "jobId", "zzz", "data", "{{{"),
    /JSON/,
  ],
  [
    "events that are nonsense",
    async ({ key, redis }) => {
      await redis.xadd(key("events"), "*", "a", "b");
      await redis.xadd(key("events"), "*", "event", "error", "jobId", "zzz");
      await redis.xadd(key("events"), "*", "event", "ioredis:close", "jobId", "zzz");
      await redis.xadd(key("events"), "*", "event", "completed", "returnvalue", "1");
    },
    undefined,
  ],
  [
    "a parent that is the job itself",
    ({ key, ...scene }) => addRaw({ key, ...scene }, { loop: { parentKey: key("loop") } }),
    /Job loop .*circle/,
  ],
  [
    "parents in a circle",
    ({ key, ...scene }) =>
      addRaw(
        { key, ...scene },
        {
          p1: { parentKey: key("p2") },
          p2: { parentKey: key("p3") },
          p3: { parentKey: key("p1") },
        },
      ),
    /circle/,
  ],
  [
    "parents that are no keys",
    async ({ world, key, redis }) => {
      for (const [index, parentKey] of ["nonsense", ":", "a::b", `${key("")}`].entries()) {
        await world.queue().add("x", {}, { jobId: `p${index}`, delay: 1e6 });
        await redis.hset(key(`p${index}`), "parentKey", parentKey);
      }
    },
    undefined,
  ],
  [
    "children that are no keys",
    async ({ world, key, redis }) => {
      await redis.sadd(key("x:dependencies"), "nonsense", ":", "a::b", key("x"), key("events"));
      await world.queue().add("x", {}, { jobId: "x", delay: 1e6 });
    },
    /:work:events .*WRONGTYPE/,
  ],
];

/** Adds delayed jobs as BullMQ does, in one step and unchecked. */
function addRaw({ key, redis }: Scene, jobs: Record<string, Record<string, string>>) {
  const step = redis.multi();
  for (const [id, fields] of Object.entries(jobs)) {
    step.hset(key(id), { name: "x", timestamp: Date.now(), opts: "{}", ...fields });
    step.zadd(key("delayed"), Date.now() + 1e6, id);
    step.xadd(key("events"), "*", "event", "added", "jobId", id, "name", "x");
    step.xadd(key("events"), "*", "event", "delayed", "jobId", id, "delay", "1000");
  }
  return step.exec();
}

const addChild = async (world: World, jobId: string, parent: string) => {
  await world.queue().add("first", {}, { delay: 1e6 }); // so that there is what the parent's key names
  const queue = `${world.prefix}:work`;
  await world.queue().add("child", {}, { jobId, parent: { id: parent, queue } });
};

group.skipIf(withoutRedis)("one damaged key costs only itself", () => {
  const inWorld = inWorlds();

  async function inScene(
    world: World,
    { port }: RedisServer,
    play: (scene: Scene) => Promise<unknown>,
  ) {
    const redis = new Redis(port);
    try {
      await play({ world, redis, key: (id) => `${world.prefix}:work:${id}` });
    } finally {
      await redis.quit();
    }
  }

  for (const [name, spoil, complaint] of SCENES) {
    for (const order of ["before the source begins", "afterwards"]) {
      inWorld(`[S4] ${name}, ${order}`, async (world, server) => {
        await inScene(world, server, async (scene) => {
          const isLate = order === "afterwards";
          await world.worker("work", async () => {});
          if (!isLate) await spoil(scene);
          const { until, complaints } = world.watch({ mode: "flow", reconcileMs: 20 });
          await world.queue().add("before", {}, { jobId: "before" });
          await until("before", "is done", ({ status }) => status === "completed");
          if (isLate) await spoil(scene);
          await world.queue().add("after", {}, { jobId: "after", attempts: 2 });
          await until("after", "is done", ({ status }) => status === "completed");
          if (complaint) {
            // What stood in the stream before it began is not read.
            const isUnread = !isLate && complaint.source === "JSON";
            const expected = isUnread ? [] : [expect.stringMatching(complaint)];
            // What is found behind a job is looked at in a later round.
            await untilTrue("it complains", () => complaints.length >= expected.length);
            expect(complaints).toEqual(expected);
          } else expect(complaints).toEqual([]);
        });
      });
    }
  }

  inWorld("[S4] a job is told again once its key is whole", async (world, server) => {
    await inScene(world, server, async ({ key, redis }) => {
      const { until, complaints } = world.watch({ reconcileMs: 20 });
      await world.queue().add("x", {}, { jobId: "x", delay: 1e6 });
      await until("x", "exists", () => true);
      await redis.rename(key("x"), key("kept"));
      await redis.set(key("x"), "1");
      await until("x", "is complained of", () => complaints.length === 1);
      await redis.rename(key("kept"), key("x"));
      await (await world.queue().getJob("x"))?.promote();
      expect((await until("x", "waits", ({ reason }) => reason === null)).status).toBe("pending");
      expect(complaints).toHaveLength(1);
    });
  });

  inWorld("[S4] a queue's set that is a string", async (world, server) => {
    await inScene(world, server, async ({ key, redis }) => {
      await redis.set(key("prioritized"), "1");
      const { until, complaints } = world.watch({ queues: ["work", "other"], reconcileMs: 20 });
      await world.queue("other").add("x", {}, { jobId: "x" });
      await until("other:x", "exists", () => true);
      await world.queue().add("x", {}, { jobId: "y", delay: 1e6 });
      await until("work:y", "exists", () => true);
      expect(complaints).toEqual([expect.stringMatching(/:work:prioritized .*WRONGTYPE/)]);
    });
  });

  inWorld("[S4] a queue's event stream that is a string", async (world, server) => {
    await inScene(world, server, async ({ key, redis }) => {
      await redis.set(key("events"), "1");
      const { until, complaints } = world.watch({ queues: ["work", "other"] });
      await world.queue("other").add("x", {}, { jobId: "x" });
      await world.worker("other", async () => {});
      await until("other:x", "is done", ({ done }) => done);
      const told = complaints.filter((each) => /:work:events .*WRONGTYPE/.test(each));
      expect(told).toHaveLength(1);
    });
  });
});
