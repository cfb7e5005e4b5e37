import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JobState, JobSummary, ListPlace, ListQuery, ListSlice } from "@org/workflow-monitor";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import { startServer } from "../support/server.js";
import {
  append,
  batchOf,
  changeOf,
  eventually,
  publisherOn,
  range,
  type Store,
  storeOn,
  whole,
} from "./given.js";

let server: RedisServer;
let prefixes = 0;
const ownPrefix = () => `list${++prefixes}:`;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

const created = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString();

/** All pages, one after another; `between` is done after each. */
async function listed(
  store: Store,
  query: Omit<ListQuery, "after">,
  between: () => Promise<unknown> = async () => {},
): Promise<JobSummary[]> {
  const all: JobSummary[] = [];
  let after: ListPlace | null | undefined;
  do {
    const page: ListSlice = await store.list({ ...query, ...(after && { after }) });
    expect(page.jobs.length).toBeLessThanOrEqual(query.limit);
    all.push(...page.jobs);
    after = page.next;
    if (after) await between();
  } while (after);
  return all;
}

const idsOf = (jobs: JobSummary[]) => jobs.map(({ jobId }) => jobId);
const inOrder = (jobs: JobSummary[]) =>
  [...jobs].sort((a, b) => (`${b.createdAt} ${b.jobId}` < `${a.createdAt} ${a.jobId}` ? -1 : 1));

/** `count` jobs, a few of them of the same moment, every other one running, in three teams. */
async function filled(store: Store, count: number): Promise<Map<string, JobState>> {
  const jobs = new Map<string, JobState>();
  for (const chunk of range(Math.ceil(count / 200)))
    await Promise.all(
      range(Math.min(200, count - chunk * 200)).map(async (at) => {
        const n = chunk * 200 + at;
        const batch = batchOf(`job-${n}`, 1, {
          createdAt: created(Math.floor(n / 7)),
          status: n % 2 ? "running" : "pending",
          labels: { team: `t${n % 3}`, n: `${n}` },
        });
        await append(store, null, batch);
        jobs.set(batch.job.jobId, batch.job);
      }),
    );
  return jobs;
}

/** Changes a job, whoever else does. */
async function change(store: Store, jobId: string, fields: Partial<JobState>, ttlMs = 3_600_000) {
  const { cursor, job } = await whole(store, jobId);
  await append(store, cursor, { ...changeOf(job, { ...job, ...fields }), ttlMs });
}

async function everyOneOnce(store: Store): Promise<void> {
  const names = range(40).map((n) => `${n % 2 ? "B" : "a"}-${n} ü`);
  for (const jobId of names) await append(store, null, batchOf(jobId, 1));
  for (const limit of [1, 2, 7, 39, 40, 41]) {
    const jobs = await listed(store, { limit });
    expect(idsOf(jobs)).toEqual(idsOf(inOrder(jobs)));
    expect(new Set(idsOf(jobs))).toEqual(new Set(names));
    expect(jobs).toHaveLength(40);
  }
}

describe.skipIf(withoutRedis)("the list", () => {
  test("of 2,000 jobs is the same whatever the pages, in the order of (createdAt, jobId)", {
    timeout: 30_000,
  }, async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const jobs = await filled(store, 2_000);
    const elsewhere = storeOn(server.port, { prefix });
    const all = await listed(elsewhere, { limit: 500 });
    expect(all).toHaveLength(2_000);
    expect(idsOf(all)).toEqual(idsOf(inOrder(all)));
    expect(new Set(idsOf(all))).toEqual(new Set(jobs.keys()));
    for (const { epoch: _epoch, revision, ...summary } of all.slice(0, 50)) {
      const { stages: _stages, ...job } = jobs.get(summary.jobId) as JobState;
      expect(revision).toBe(1);
      expect(JSON.stringify(summary)).toBe(JSON.stringify(job));
    }
    const queries: Omit<ListQuery, "limit">[] = [
      { status: "running" },
      { labels: { team: "t1" } },
      { status: "running", labels: { team: "t1" } },
      { labels: { team: "t1", n: "7" } },
      { labels: { n: "8" }, status: "running" },
    ];
    for (const query of queries) {
      const { status, labels = {} } = query;
      const wanted = all.filter(
        (job) =>
          (status === undefined || job.status === status) &&
          Object.entries(labels).every(([key, value]) => job.labels[key] === value),
      );
      for (const limit of [37, 1_500])
        expect(idsOf(await listed(elsewhere, { ...query, limit }))).toEqual(idsOf(wanted));
    }
  });

  test("in small pages has every one of many jobs of one moment, once", async () => {
    await everyOneOnce(storeOn(server.port, { prefix: ownPrefix() }));
  });

  // Debian has the sources of its locales in the package `locales`.
  const folder = mkdtempSync(join(tmpdir(), "workflow-monitor-locale-"));
  const locale = join(folder, "en_US.UTF-8");
  const made = spawnSync("localedef", ["-i", "en_US", "-f", "UTF-8", locale]).status === 0;
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.skipIf(!made)("so it does where Redis sorts as people do", async () => {
    const env = { LOCPATH: folder, LC_ALL: "en_US.UTF-8" };
    const own = await startRedis({ env });
    onTestFinished(() => own.close());
    const sorts = await redisClient(own.port).call("EVAL", "return 'a' < 'B'", 0);
    expect(sorts).toBe(1);
    await everyOneOnce(storeOn(own.port));
  });

  test("in pages, while jobs change, end and begin: none twice, none of another status, those that stay all there", {
    timeout: 20_000,
  }, async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    await filled(store, 300);
    const running = range(300).filter((n) => n % 2);
    const leaving = running.filter((n) => n % 5 === 0);
    const staying = running.filter((n) => n % 5 !== 0);
    let left = 0;
    let begun = 0;
    const jobs = await listed(store, { status: "running", limit: 20 }, async () => {
      for (const n of leaving.slice(left, left + 4))
        await change(store, `job-${n}`, { status: "completed", done: true });
      left += 4;
      for (const n of staying.slice(left, left + 2))
        await change(store, `job-${n}`, { message: "x" });
      // Newer than all others.
      await append(store, null, batchOf(`new-${begun++}`, 1, { status: "running" }));
    });
    const ids = idsOf(jobs);
    expect(new Set(ids).size).toBe(ids.length);
    expect(jobs.every(({ status }) => status === "running")).toBe(true);
    expect(ids).toEqual(expect.arrayContaining(staying.map((n) => `job-${n}`)));
    expect(ids).toEqual(idsOf(inOrder(jobs)));
    const done = await listed(store, { status: "completed", limit: 100 });
    expect(done).toHaveLength(Math.min(left, leaving.length));
  });

  test("has no job that is gone, and forgets it", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    const jobs = await filled(store, 30);
    expect(await listed(store, { limit: 50 })).toHaveLength(30);
    for (const n of [0, 7, 29])
      await client.call("DEL", `${prefix}{job-${n}}:head`, `${prefix}{job-${n}}:log`);
    const rest = await listed(store, { limit: 4 });
    expect(rest).toHaveLength(27);
    for (const n of [0, 7, 29]) expect(idsOf(rest)).not.toContain(`job-${n}`);
    expect(jobs.size).toBe(30);
    for (const key of await client.texts("KEYS", `${prefix}{jobs}:*`)) {
      const members =
        (await client.text("TYPE", key)) === "hash"
          ? await client.texts("HKEYS", key)
          : await client.texts("ZRANGE", key, 0, -1);
      for (const n of [0, 7, 29]) expect(members).not.toContain(`job-${n}`);
    }
  });

  test("puts right what the index says wrongly of a job", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    await append(store, null, batchOf("j", 1, { status: "running", labels: { a: "1" } }));
    await store.list({ limit: 1 }); // what was appended here is in it
    // The index believes that it still is pending, and has another label.
    const [score] = (
      await client.texts("ZRANGE", `${prefix}{jobs}:all`, 0, -1, "WITHSCORES")
    ).slice(1);
    for (const key of await client.texts("KEYS", `${prefix}{jobs}:*`)) {
      if (key.endsWith(":status:running") || key.includes(":label:")) await client.call("DEL", key);
    }
    const sets = ["all", "status:pending", 'label:["b","2"]'];
    for (const set of sets.slice(1))
      await client.call("ZADD", `${prefix}{jobs}:${set}`, score ?? "", "j");
    const { cursor } = await whole(store);
    await client.call(
      "HSET",
      `${prefix}{jobs}:entries`,
      "j",
      JSON.stringify([cursor.epoch, 0, sets]),
    );
    expect(await listed(store, { status: "pending", limit: 9 })).toEqual([]);
    expect(await listed(store, { labels: { b: "2" }, limit: 9 })).toEqual([]);
    expect(idsOf(await listed(store, { status: "running", limit: 9 }))).toEqual(["j"]);
    expect(idsOf(await listed(store, { labels: { a: "1" }, limit: 9 }))).toEqual(["j"]);
  });

  test("gets a job back whose publisher died before it was written in, with the next append of another", async () => {
    const prefix = ownPrefix();
    const client = redisClient(server.port);
    const store = storeOn(server.port, { prefix });
    await append(store, null, batchOf("j", 1, { status: "running" }));
    await store.list({ limit: 1 });
    await client.call("DEL", ...(await client.texts("KEYS", `${prefix}{jobs}:*`)));
    const other = storeOn(server.port, { prefix });
    expect(await listed(other, { limit: 9 })).toEqual([]);
    await change(other, "j", { message: "on" });
    expect(idsOf(await listed(other, { limit: 9 }))).toEqual(["j"]);
    expect(idsOf(await listed(other, { status: "running", limit: 9 }))).toEqual(["j"]);
  });

  test("of another page than there is: a bad_request, and 400 over HTTP", async () => {
    const store = storeOn(server.port, { prefix: ownPrefix() });
    await append(store, null, batchOf("j", 1));
    const node = await startServer({ store });
    for (const cursor of ["nonsense", " ", "2026", "x y", "{}", "\u0000", "9".repeat(2_000)])
      await expect(node.monitor.list({ limit: 1, cursor })).rejects.toMatchObject({
        code: "bad_request",
      });
    expect((await node.get("/jobs?cursor=nonsense")).status).toBe(400);
    expect((await node.get("/jobs")).status).toBe(200);
  });
});

describe.skipIf(withoutRedis)("retention", () => {
  test("[R15] a done job is remembered for twice its time, whatever its time was before", async () => {
    const prefix = ownPrefix();
    const ttlMs = 60_000;
    const { say } = publisherOn(server.port, {
      store: { prefix },
      retainMs: ttlMs,
      abandonMs: ttlMs,
    });
    const client = redisClient(server.port);
    const left = () => client.number("PTTL", `${prefix}{j}:head`);
    await say({ status: "running" });
    expect(await left()).toBeLessThanOrEqual(ttlMs + 1_000);
    await say({ status: "completed" });
    expect(await left()).toBeGreaterThan(1.5 * ttlMs);
    await say({ status: "running", run: 2 });
    expect(await left()).toBeGreaterThan(0.9 * ttlMs);
    expect(await client.number("PTTL", `${prefix}{j}:log`)).toBeGreaterThan(0.9 * ttlMs);
  });

  test("[R15] each event of a running job lets it live longer", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    await append(store, null, batchOf("j", 1, {}, { ttlMs: 10_000 }));
    await change(store, "j", { message: "x" }, 60_000);
    for (const key of ["head", "log"])
      expect(await client.number("PTTL", `${prefix}{j}:${key}`)).toBeGreaterThan(50_000);
    await change(store, "j", { status: "completed", done: true }, 1_000);
    expect(await client.number("PTTL", `${prefix}{j}:head`)).toBeLessThanOrEqual(2_000 + 1_000);
    expect(await client.number("PTTL", `${prefix}{j}:log`)).toBeLessThanOrEqual(1_000);
  });

  test("the index does not grow for ever: jobs that are over leave it, though nobody lists", {
    timeout: 15_000,
  }, async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    for (const n of range(40))
      await append(
        store,
        null,
        batchOf(
          `old-${n}`,
          1,
          { status: "completed", done: true, labels: { n: `${n}` } },
          { ttlMs: 50 },
        ),
      );
    const old = async () =>
      (await client.texts("HKEYS", `${prefix}{jobs}:entries`)).filter((id) => id.startsWith("old-"))
        .length;
    await eventually("all were written in", async () => (await old()) > 0);
    let n = 0;
    await eventually("none is left", async () => {
      await append(store, null, batchOf(`new-${++n}`, 1));
      return (await old()) === 0;
    });
    const keys = await client.texts("KEYS", `${prefix}{jobs}:label:*`);
    expect(keys).toEqual([]);
    for (const key of await client.texts("KEYS", `${prefix}{jobs}:*`)) {
      if ((await client.text("TYPE", key)) !== "zset") continue;
      const members = await client.texts("ZRANGE", key, 0, -1);
      expect(members.filter((id) => id.startsWith("old-"))).toEqual([]);
    }
    expect(await listed(store, { limit: 1_000 })).toHaveLength(n);
  });

  test("those that live longer than the index knew make room for those that are gone", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    const expiry = `${prefix}{jobs}:expiry`;
    for (const n of range(20)) await append(store, null, batchOf(`live-${n}`, 1));
    await eventually(
      "all were written in",
      async () => (await client.number("ZCARD", expiry)) === 20,
    );
    for (const n of range(20)) await client.call("ZADD", expiry, 1_000, `live-${n}`);
    let n = 0;
    await eventually("all are renewed", async () => {
      await append(store, null, batchOf(`new-${++n}`, 1));
      return (await client.number("ZCOUNT", expiry, 0, 1_000)) === 0;
    });
    expect((await listed(store, { limit: 1_000 })).length).toBe(20 + n);
  });

  test("without its entries, jobs that are gone leave what they are found in", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    for (const n of range(5)) await append(store, null, batchOf(`gone-${n}`, 1));
    expect(await listed(store, { limit: 10 })).toHaveLength(5);
    await client.call("DEL", `${prefix}{jobs}:entries`);
    for (const n of range(5)) await client.call("DEL", `${prefix}{gone-${n}}:head`);
    expect(await listed(store, { limit: 10, status: "pending" })).toEqual([]);
    expect(await listed(store, { limit: 10 })).toEqual([]);
    for (const set of ["all", "status:pending"])
      expect(await client.number("ZCARD", `${prefix}{jobs}:${set}`)).toBe(0);
  });

  test("a job whose time to read is over leaves the index at once, though it is remembered", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    const done = { status: "completed", done: true } as const;
    await append(store, null, batchOf("j", 1, done, { ttlMs: 1_000 }));
    await store.list({ limit: 1 });
    await eventually("its time is over", async () => (await store.read("j"))?.expired === true);
    expect(await listed(store, { limit: 9 })).toEqual([]);
    expect(await client.texts("KEYS", `${prefix}{jobs}:*`)).toEqual([]);
    expect(await client.number("EXISTS", `${prefix}{j}:head`)).toBe(1);
    // Another run brings it back, into the list as well.
    const { cursor, job } = await whole(store);
    await append(store, cursor, changeOf(job, { ...job, run: 2, status: "running", done: false }));
    expect(idsOf(await listed(store, { limit: 9 }))).toEqual(["j"]);
  });

  test("nothing of a job is left in Redis after its time", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const client = redisClient(server.port);
    await append(store, null, batchOf("j", 2, { status: "failed", done: true }, { ttlMs: 50 }));
    await eventually("it is gone", async () => (await store.read("j")) === undefined);
    expect(await client.texts("KEYS", `${prefix}{j}*`)).toEqual([]);
    expect(await listed(store, { limit: 9 })).toEqual([]);
    expect(await client.texts("KEYS", `${prefix}*`)).toEqual([]);
  });
});
