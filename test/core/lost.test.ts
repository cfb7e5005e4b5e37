import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type JobStore,
  memoryStore,
  type PublishedEvent,
  type WorkflowMonitor,
} from "@org/workflow-monitor";
import { afterEach, expect, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";

const clock = new ManualClock();
const monitors: WorkflowMonitor[] = [];

afterEach(async () => {
  for (const monitor of monitors.splice(0)) await settle(clock, monitor.close());
});

function publisher(store: JobStore) {
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, store, retainMs: 60_000 });
  monitors.push(monitor);
  const say = (fields: object): Promise<Cursor> => {
    clock.advance(1); // what is said later is later
    return settle(clock, monitor.publish({ type: "job", jobId: "j", ...fields } as PublishedEvent));
  };
  return { monitor, say };
}

/** A store that can be another one from one moment to the next, and says so. */
function replaceable() {
  let inner = memoryStore({ clock });
  const listeners = new Set<(there: boolean) => void>();
  const store: JobStore = {
    read: (...args) => inner.read(...args),
    append: (...args) => inner.append(...args),
    find: (...args) => inner.find(...args),
    follow: (...args) => inner.follow(...args),
    connection(listener) {
      listeners.add(listener);
      listener(true);
      return () => listeners.delete(listener);
    },
    close: () => inner.close(),
  };
  const connected = (there: boolean) => {
    for (const listener of listeners) listener(there);
  };
  return {
    store,
    connected,
    replace(next = memoryStore({ clock })) {
      inner = next;
      return next;
    },
  };
}

const record = async (store: JobStore) => store.read("j", { epoch: "", revision: 0 });

test("[R18] a publisher that hears that the store is back brings back what it lost, without an event", async () => {
  const { store, connected, replace } = replaceable();
  const { say } = publisher(store);
  await say({ status: "running" });
  const last = await say({ message: "so far" });
  connected(false);
  replace();
  connected(true);
  await turns();
  expect(await record(store)).toMatchObject({
    job: { status: "running", message: "so far" },
    cursor: { revision: 0 },
    events: [],
    carried: [last],
  });
});

test("[R18] so it does with a job that is over, as long as it is to be read", async () => {
  const { store, connected, replace } = replaceable();
  const { say } = publisher(store);
  await say({ status: "completed" });
  replace();
  connected(false);
  connected(true);
  await turns();
  expect(await record(store)).toMatchObject({ job: { status: "completed", done: true } });
  clock.advance(60_000);
  replace();
  connected(false);
  connected(true);
  await turns();
  expect(await record(store)).toBeUndefined();
});

test.each([-3_600_000, 3_600_000])(
  "[S3] [R19] a wall clock that is set by %i ms changes nothing of for how long",
  async (step) => {
    const { store, connected, replace } = replaceable();
    const { say } = publisher(store);
    await say({ status: "completed" });
    clock.step(step);
    await say({ status: "completed" }); // it was there already: its time is not renewed
    const lose = async () => {
      replace();
      connected(false);
      connected(true);
      await turns();
    };
    clock.advance(59_000);
    await lose();
    expect(await record(store)).toMatchObject({ job: { done: true } });
    clock.advance(60_000); // it was brought back for as long again
    await lose();
    expect(await record(store)).toBeUndefined();
  },
);

test("[S8] [R18] the memory of what can be brought back is bounded in bytes: the job published longest ago goes first", async () => {
  const { store, connected, replace } = replaceable();
  const limits = { rememberedBytes: 1024 * 1024 };
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, store, limits });
  monitors.push(monitor);
  const stages = Array.from({ length: 100 }, (_, n) => ({ stage: `stage ${n}` })); // about 100 KiB
  for (let n = 1; n <= 30; n++) {
    await settle(clock, monitor.publish({ type: "plan", jobId: `job ${n}`, stages }));
  }
  const { jobs } = monitor.stats();
  expect(jobs).toBeGreaterThan(5);
  expect(jobs).toBeLessThanOrEqual(10);
  replace();
  connected(false);
  connected(true);
  await turns(50);
  expect(await store.read("job 30")).toBeDefined();
  expect(await store.read("job 1")).toBeUndefined();
});

test("[R18] what waits for a store goes on as soon as it is back, without any time that passes", async () => {
  const { store, connected } = replaceable();
  let away = true;
  const read: JobStore["read"] = async (...args) => {
    if (away) throw new Error("away");
    return store.read(...args);
  };
  const { monitor } = publisher({ ...store, read });
  connected(false);
  let stored = false;
  const said = monitor.publish({ type: "job", jobId: "j", status: "running" });
  void said.then(() => {
    stored = true;
  });
  await turns(10);
  expect(stored).toBe(false);
  away = false;
  await turns(10);
  expect(stored).toBe(false); // it waits for its next try
  connected(true);
  await turns(10);
  expect(stored).toBe(true);
});

test("[R18] nothing is brought back that the store still has", async () => {
  const { store, connected } = replaceable();
  const { say } = publisher(store);
  const cursor = await say({ status: "running" });
  connected(false);
  connected(true);
  await turns();
  expect((await record(store))?.cursor).toEqual(cursor);
  expect((await say({ message: "next" })).epoch).toBe(cursor.epoch);
});

test("[R18] a store that is behind what it acknowledged gets it back, with what others said since", async () => {
  const { store, replace } = replaceable();
  const mine = publisher(store);
  const first = await mine.say({ status: "running", labels: { mine: "1" } });
  const behind = (await record(store))?.job;
  const last = await mine.say({ labels: { mine: "2" } });
  // It comes back as it was after the first event; somebody else goes on from there.
  const next = replace();
  if (!behind) throw new Error("no job");
  const base = { id: "b", revisions: [], job: behind, ttlMs: 60_000, carries: first };
  await next.append("j", null, base);
  const theirs = publisher(next);
  await theirs.say({ message: "theirs" });

  const cursor = await mine.say({ reason: "news" });
  const found = await record(store);
  expect(found?.job).toMatchObject({ labels: { mine: "2" }, message: "theirs", reason: "news" });
  expect(found?.cursor).toEqual(cursor);
  expect(found?.carried).toContainEqual(last);
  // The other one goes on in the epoch that it finds.
  expect((await theirs.say({ message: "on" })).epoch).toBe(cursor.epoch);
  expect((await record(store))?.job).toMatchObject({ labels: { mine: "2" }, message: "on" });
});

test("[R18] two that knew different things of a lost job agree in the end", async () => {
  const { store, connected, replace } = replaceable();
  const one = publisher(store);
  const other = publisher(store);
  await one.say({ status: "running" });
  await other.say({ message: "from the other" });
  await one.say({ labels: { last: "one" } });
  connected(false);
  replace();
  connected(true);
  await turns(50);
  clock.advance(1_000);
  await turns(50);
  const found = await record(store);
  expect(found?.job).toMatchObject({ message: "from the other", labels: { last: "one" } });
  const cursor = await other.say({ message: "on" });
  expect((await one.say({ reason: "on" })).epoch).toBe(cursor.epoch);
});

test("[R18] what somebody who knew more brings back meanwhile stays", async () => {
  const { store, replace } = replaceable();
  let reads = 0;
  let beforeRead = async (_read: number) => {};
  const mine = publisher({
    ...store,
    async read(...args) {
      reads += 1;
      await beforeRead(reads);
      return store.read(...args);
    },
  });
  const theirs = publisher(store);
  await mine.say({ status: "running" });
  const last = await theirs.say({ message: "theirs" });
  const known = (await record(store))?.job;
  if (!known) throw new Error("no job");
  const next = replace();
  const lost = { id: "a", revisions: [], job: { ...known, message: null }, ttlMs: 60_000 };
  await next.append("j", null, { ...lost, carries: { epoch: "aaaaaaaaaaaa", revision: 1 } });
  // It finds the log behind, and reads all of it; in between the other one has brought back what it knows.
  const first = reads + 1;
  beforeRead = async (read) => {
    const cursor = (await next.read("j"))?.cursor;
    if (read === first + 1 && cursor)
      await next.append("j", cursor, { ...lost, id: "b", job: known, carries: last });
  };
  await mine.say({ reason: "news" });
  expect((await record(store))?.job).toMatchObject({ message: "theirs", reason: "news" });
});

/** The store comes back empty. */
async function lose({ connected, replace }: ReturnType<typeof replaceable>): Promise<void> {
  connected(false);
  replace();
  connected(true);
  await turns(50);
  clock.advance(1_000);
  await turns(50);
}

test("[R18] lost twice, it comes back as far as it was, whoever brings it", async () => {
  const lossy = replaceable();
  const [behind, ahead] = [publisher(lossy.store), publisher(lossy.store)];
  await behind.say({ status: "running" });
  await ahead.say({ status: "completed" });
  await lose(lossy);
  expect(await record(lossy.store)).toMatchObject({ job: { status: "completed" } });
  // Who knows more is first now; who knows less does not find in it what he was acknowledged.
  lossy.replace();
  await ahead.say({ message: "late" });
  await behind.say({ message: "late" });
  expect(await record(lossy.store)).toMatchObject({ job: { status: "completed", done: true } });
});

test("[R18] what was acknowledged after a look-up comes back, too", async () => {
  const lossy = replaceable();
  let answers = true;
  const { say } = publisher({
    ...lossy.store,
    async append(...args) {
      const cursor = await lossy.store.append(...args);
      if (!answers) throw new Error("no answer in time");
      return cursor;
    },
  });
  await say({ status: "running" });
  answers = false;
  await say({ status: "completed" });
  answers = true;
  await lose(lossy);
  expect(await record(lossy.store)).toMatchObject({ job: { status: "completed", done: true } });
});

test("[R18] so does what was there already when it was said", async () => {
  const lossy = replaceable();
  const gone = publisher(lossy.store);
  await gone.say({ status: "completed" });
  await settle(clock, gone.monitor.close());
  const { say } = publisher(lossy.store);
  await say({ status: "completed" });
  await lose(lossy);
  expect(await record(lossy.store)).toMatchObject({ job: { status: "completed", done: true } });
  // Saying it once more was no new life: its time to read runs from when it was stored.
  clock.advance(59_000);
  await lose(lossy);
  expect(await record(lossy.store)).toBeUndefined();
});

test("[R18] what was said after a loss is not lost with the log that it stands in", async () => {
  const lossy = replaceable();
  const stage = (stage: string, status: string) => ({ type: "stage", stage, status });
  const [one, other] = [publisher(lossy.store), publisher(lossy.store)];
  await one.say(stage("a", "running"));
  await other.say(stage("a", "completed"));
  // One goes on from what it knows.
  lossy.replace();
  await one.say(stage("b", "completed"));
  // The server restarts: what it has is the base of another epoch.
  const { job, cursor } = (await record(lossy.store)) ?? {};
  if (!job || !cursor) throw new Error("no job");
  const batch = { id: "restart", revisions: [], job, ttlMs: 60_000, carries: cursor };
  await lossy.store.append("j", cursor, batch);

  await other.say({ message: "on" });
  expect(await record(lossy.store)).toMatchObject({
    job: {
      message: "on",
      stages: [
        { stage: "a", status: "completed" },
        { stage: "b", status: "completed" },
      ],
    },
  });
});

test("[R18] each of three that knew more than the one before keeps what all have said since", async () => {
  const { store, replace } = replaceable();
  const publishers = [publisher(store), publisher(store), publisher(store)];
  const say = (fields: (who: number) => object) =>
    publishers.reduce(async (before, each, who) => {
      await before;
      await each.say(fields(who));
    }, Promise.resolve());
  const stage = (text: string) => (who: number) => ({
    type: "stage",
    stage: `${who}`,
    message: text,
  });
  await say(stage("before"));
  replace();
  await say(stage("after"));
  const found = await record(store);
  expect(found?.job?.stages.map(({ message }) => message)).toEqual(["after", "after", "after"]);
});

test("[R18] who knew of another life than that which the log goes back to does not undo the log", async () => {
  const { store, replace } = replaceable();
  const mine = publisher(store);
  const theirs = publisher(store);
  await theirs.say({ status: "running" });
  await mine.say({ message: "mine" });
  replace(); // and nobody hears of it
  await theirs.say({ labels: { n: "1" } });
  const job = (await record(store))?.job;
  const cursor = (await record(store))?.cursor;
  if (!job || !cursor) throw new Error("no job");
  // Now it is another life again, with all that there was.
  const next = replace();
  const base = { id: "b", revisions: [], job, ttlMs: 60_000, carries: cursor };
  await next.append("j", null, base);
  await mine.say({ reason: "news" });
  expect((await record(store))?.job).toMatchObject({ labels: { n: "1" }, reason: "news" });
});

test("many jobs that wait for their store print nothing, and are told when it is over", async () => {
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on("warning", warn);
  const { store } = replaceable();
  const away = {
    ...store,
    read: async () => {
      throw new Error("away");
    },
  };
  const { monitor } = publisher(away);
  const said = Array.from({ length: 20 }, (_, n) =>
    monitor.publish({ type: "job", jobId: `job ${n}` }),
  );
  await turns(10);
  await settle(clock, monitor.close());
  for (const { reason } of (await Promise.allSettled(said)) as PromiseRejectedResult[])
    expect(reason).toMatchObject({ code: "closed" });
  await turns();
  process.off("warning", warn);
  expect(warnings).toEqual([]);
});

test("[R1] a batch that is stored after it was looked up in vain counts once", async () => {
  const inner = memoryStore({ clock });
  let late: (() => Promise<unknown>) | undefined;
  let calls = 0;
  const store: JobStore = {
    ...inner,
    async append(...args) {
      calls += 1;
      if (calls === 1) {
        late = () => inner.append(...args);
        throw new Error("no answer in time");
      }
      if (calls === 2) {
        await late?.();
        // Somebody else takes it back before this publisher can look again.
        const read = await inner.read("j");
        if (!read?.job) throw new Error("no job");
        const job = { ...read.job, message: "theirs" };
        const event = JSON.stringify({ type: "job", message: "theirs" });
        const batch = { id: "x", job, ttlMs: 60_000, revisions: [{ event, patch: {} }] };
        await inner.append("j", read.cursor, batch);
      }
      return inner.append(...args);
    },
  };
  const { say } = publisher(store);
  const cursor = await say({ status: "running", message: "mine" });
  expect(cursor.revision).toBe(1);
  expect((await record(inner))?.events).toHaveLength(2);
  expect((await record(inner))?.job?.message).toBe("theirs");
});

test("[R1] so does one that is stored between the look-up and the next read", async () => {
  const inner = memoryStore({ clock });
  let late: (() => Promise<unknown>) | undefined;
  let soughtFor = false;
  const store: JobStore = {
    ...inner,
    async append(...args) {
      if (late) return inner.append(...args);
      late = () => inner.append(...args);
      throw new Error("no answer in time");
    },
    async find(...args) {
      const found = await inner.find(...args);
      soughtFor = true;
      return found;
    },
    async read(...args) {
      if (soughtFor) await late?.();
      return inner.read(...args);
    },
  };
  const { say } = publisher(store);
  // Its first event is undone by its second: said again, both would be news.
  const [first, second] = ["one", "two"].map((message) => say({ message }));
  expect([(await first)?.revision, (await second)?.revision]).toEqual([1, 2]);
  expect((await record(inner))?.events).toHaveLength(2);
});
