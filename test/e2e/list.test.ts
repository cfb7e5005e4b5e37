import {
  type Authorize,
  type JobPage,
  type JobStore,
  type ListSlice,
  memoryStore,
} from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { turns } from "../support/clock.js";
import { rawConnect } from "../support/raw.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { startServer, type TestServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

let redis: RedisServer | undefined;
let prefixes = 0;
beforeAll(async () => {
  if (!withoutRedis) redis = await startRedis();
});
afterAll(() => redis?.close());

/** A job belongs to the name before its first dash; a viewer is the name in its token. */
const owner: Authorize = ({ jobId, headers }) =>
  jobId === null || jobId.split("-")[0] === headers.authorization;
const ownerAsked: Authorize = async (request) => {
  await turns(1);
  return owner(request);
};

interface Listed {
  ids: string[];
  pages: number;
  /** The bodies, as they came. */
  text: string;
  cursors: string[];
}

/** All pages that a viewer gets. */
async function listed(server: TestServer, viewer: string, limit: number): Promise<Listed> {
  const all: Listed = { ids: [], pages: 0, text: "", cursors: [] };
  let next: string | null = null;
  do {
    const cursor: string = next === null ? "" : `&cursor=${next}`;
    const path = `/jobs?limit=${limit}${cursor}`;
    const { status, text } = await server.get(path, { authorization: viewer });
    expect(status).toBe(200);
    const page = JSON.parse(text) as JobPage;
    all.ids.push(...page.jobs.map(({ jobId }) => jobId));
    all.pages += 1;
    all.text += text;
    if (page.next !== null) all.cursors.push(page.next);
    next = page.next;
  } while (next !== null);
  return all;
}

const created = (n: number) => Date.UTC(2026, 0, 1) + n;

async function publish(
  server: TestServer,
  jobs: readonly (readonly [jobId: string, at: number])[],
) {
  for (let n = 0; n < jobs.length; n += 500)
    await Promise.all(
      jobs
        .slice(n, n + 500)
        .map(([jobId, timestamp]) => server.monitor.publish({ type: "job", jobId, timestamp })),
    );
}

/** Makes an empty store, as the function that gives each node its own. */
const STORES: [name: string, skip: boolean, create: () => () => JobStore][] = [
  [
    "memoryStore",
    false,
    () => {
      const store = memoryStore({ jobs: 20_000 });
      return () => store;
    },
  ],
  [
    "redisStore",
    withoutRedis,
    () => {
      const prefix = `list-e2e${++prefixes}:`;
      return () => redisStore({ url: redis?.url ?? "", prefix });
    },
  ],
];

describe.each(STORES)("[A1] [D14] the list of a viewer, on %s", (name, skip, create) => {
  async function start(authorize: Authorize = owner, node = create()) {
    const store = node();
    const server = await startServer({ store, authorize });
    onTestFinished(() => store.close());
    return server;
  }

  test.skipIf(skip)("who may see no job learns of none", async () => {
    const server = await start();
    await publish(
      server,
      Array.from({ length: 120 }, (_, n) => [`bob-${n}`, created(n)]),
    );
    const { text } = await server.get("/jobs?limit=20", { authorization: "ann" });
    expect(text).toBe('{"jobs":[],"next":null}');
  });

  test.skipIf(skip)(
    "one job among thousands of foreign ones is in the first page",
    { timeout: 60_000 },
    async () => {
      const count = name === "memoryStore" ? 10_000 : 1_500;
      for (const place of [0, count / 2, count]) {
        const server = await start(place === 0 ? ownerAsked : owner);
        await publish(server, [
          ...Array.from({ length: count }, (_, n) => [`bob-${n}`, created(n + 1)] as const),
          ["ann-1", created(place)],
        ]);
        for (const limit of [1, 50]) {
          const { ids, pages } = await listed(server, "ann", limit);
          expect(ids).toEqual(["ann-1"]);
          expect(pages).toBe(1);
        }
      }
    },
  );

  test.skipIf(skip)(
    "is exactly its jobs, in order, in full pages, whoever else has jobs",
    { timeout: 60_000 },
    async () => {
      const OWNERS = ["ann", "bob", "cid"];
      const anyJob = fc.record({ owner: fc.constantFrom(...OWNERS), at: fc.nat({ max: 40 }) });
      await fc.assert(
        fc.asyncProperty(
          fc.array(anyJob, { maxLength: 60 }),
          fc.integer({ min: 1, max: 9 }),
          fc.boolean(),
          async (all, limit, isAsync) => {
            const store = create()();
            const server = await startServer({ store, authorize: isAsync ? ownerAsked : owner });
            // Each owner has moments of its own, so that a moment tells whose it is.
            const jobs = all.map(({ owner, at }, n) => ({
              owner,
              jobId: `${owner}-${n}-§`,
              at: created(3 * at + OWNERS.indexOf(owner)),
            }));
            await publish(
              server,
              jobs.map(({ jobId, at }) => [jobId, at]),
            );
            for (const viewer of [...OWNERS, "dan"]) {
              const { ids, pages, text, cursors } = await listed(server, viewer, limit);
              const own = jobs.filter((job) => job.owner === viewer);
              const newestFirst = own.sort((a, b) => b.at - a.at || (b.jobId < a.jobId ? -1 : 1));
              expect(ids).toEqual(newestFirst.map(({ jobId }) => jobId));
              expect(pages).toBe(Math.max(1, Math.ceil(own.length / limit)));
              const seen = text + cursors.map((cursor) => Buffer.from(cursor, "base64url")).join();
              for (const { owner, jobId, at } of jobs) {
                if (owner === viewer) continue;
                expect(seen).not.toContain(jobId);
                expect(seen).not.toContain(new Date(at).toISOString());
              }
            }
            await server.app.close();
            await server.monitor.close();
            await store.close();
          },
        ),
        { seed: 20_260_101, numRuns: 20 },
      );
    },
  );

  test.skipIf(skip)(
    "its cursors hide what they point to, are the same for the same page, and work on every node",
    async () => {
      const nodes = create();
      const [one, other] = [await start(owner, nodes), await start(owner, nodes)];
      await publish(
        one,
        Array.from({ length: 30 }, (_, n) => [`ann-${"x".repeat(3 * n)}${n}`, created(n)]),
      );
      const { ids, cursors } = await listed(one, "ann", 4);
      expect(cursors).toHaveLength(7);
      expect(new Set(cursors.map(({ length }) => length)).size).toBe(1);
      for (const cursor of cursors) {
        expect(cursor).toMatch(/^[\w-]{1,512}$/);
        const texts = [
          cursor,
          ...(["base64url", "hex"] as const).map((as) => `${Buffer.from(cursor, as)}`),
        ];
        for (const text of texts) expect(text).not.toMatch(/ann|2026|xxx/);
      }
      expect((await listed(one, "ann", 4)).cursors).toEqual(cursors);
      const path = `/jobs?limit=4&cursor=${cursors[2]}`;
      const { jobs } = (await other.get(path, { authorization: "ann" })).json<JobPage>();
      expect(jobs.map(({ jobId }) => jobId)).toEqual(ids.slice(12, 16));
      const page = await one.monitor.list({ limit: 4, cursor: cursors[2] as string });
      expect(page.jobs.map(({ jobId }) => jobId)).toEqual(ids.slice(12, 16));
    },
  );

  test.skipIf(skip)("[H14] refuses a cursor that is none of its own", async () => {
    const [server, stranger] = [await start(), await start()];
    for (const each of [server, stranger])
      await publish(
        each,
        Array.from({ length: 3 }, (_, n) => [`ann-${n}`, created(n)]),
      );
    const [cursor = ""] = (await listed(server, "ann", 1)).cursors;
    const [foreign = ""] = (await listed(stranger, "ann", 1)).cursors;
    const changed = [0, 5, 20, 60, 200].map(
      (at) => cursor.slice(0, at) + (cursor[at] === "A" ? "B" : "A") + cursor.slice(at + 1),
    );
    const former = `${new Date(created(1)).toISOString()} ann-1`;
    const garbage = ["", "x", "0", "AQ", "e30", "null", "%00", "ü", "a".repeat(512), former];
    for (const text of [...garbage, ...changed, foreign, cursor.slice(0, -2), `${cursor}AA`]) {
      const path = `/jobs?limit=1&cursor=${encodeURIComponent(text)}`;
      const answer = await server.get(path, { authorization: "ann" });
      expect(answer.status, text).toBe(400);
      expect(answer.json()).toMatchObject({ code: "bad_request" });
      expect(answer.text).not.toContain("ann-");
    }
    expect((await server.get(`/jobs?cursor=${cursor}`, { authorization: "ann" })).status).toBe(200);
  });
});

/** A store of endlessly many jobs of somebody else, of which each call looks at as many as it is asked for. */
function endlessStore() {
  const asked: number[] = [];
  const inner = memoryStore();
  const head = inner.append("bob", null, {
    id: "a",
    revisions: [],
    job: { jobId: "bob" } as never,
    ttlMs: 1e9,
  });
  const store: JobStore = {
    ...inner,
    async list({ limit, after }) {
      asked.push(limit);
      await head;
      const begin = after ? Number(after.createdAt) - 1 : 1e9;
      const rows = Array.from({ length: limit }, (_, n) => ({
        jobId: "bob-1",
        createdAt: String(begin - n),
      }));
      return { jobs: rows as never[], next: rows.at(-1) ?? null };
    },
  };
  return { store, asked };
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, n) => total + n, 0);

describe("[A1] [D14] a search for rows that may be seen", () => {
  test("ends after some 20,000 rows, and goes on from there with the next page", async () => {
    const { store, asked } = endlessStore();
    const server = await startServer({ store, authorize: owner });
    const first = (await server.get("/jobs?limit=200", { authorization: "ann" })).json<JobPage>();
    expect(first.jobs).toEqual([]);
    expect(sum(asked)).toBeGreaterThanOrEqual(20_000);
    expect(sum(asked)).toBeLessThan(20_500);
    expect(first.next).toMatch(/^[\w-]+$/);
    const more = (
      await server.get(`/jobs?cursor=${first.next}`, { authorization: "ann" })
    ).json<JobPage>();
    expect(more.next).not.toBe(first.next);
  });

  test("ends when its viewer goes away", async () => {
    const { store, asked } = endlessStore();
    const held: (() => void)[] = [];
    const server = await startServer({
      store,
      authorize: async ({ jobId }) => {
        if (jobId !== null) await new Promise<void>((resolve) => held.push(resolve));
        return jobId === null;
      },
    });
    const viewer = await rawConnect(server.port);
    // One behind the other: the second begins when the first is answered.
    viewer.socket.write("GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2));
    await until("it asks about the rows of the first", () => held.length === 51);
    let left = false;
    viewer.socket.destroy();
    await until("the server knows", () => {
      server.app.server.getConnections((_, count) => {
        left = count === 0;
      });
      return left;
    });
    for (const release of held) release();
    await turns(20);
    expect(asked).toHaveLength(1);
  });

  test("ends when its node goes: 503, come again", async () => {
    const { store, asked } = endlessStore();
    let drained: Promise<void> | undefined;
    const server = await startServer({
      store: {
        ...store,
        async list(query) {
          if (asked.length === 3) drained = server.monitor.drain();
          return (await store.list?.(query)) as ListSlice;
        },
      },
      authorize: owner,
    });
    const { status, json } = await server.get("/jobs", { authorization: "ann" });
    expect(status).toBe(503);
    expect(json()).toMatchObject({ code: "draining" });
    await inTime("the drain", drained ?? Promise.reject(new Error("it was not drained")));
    await turns(50);
    expect(asked).toHaveLength(4);
  });
});
