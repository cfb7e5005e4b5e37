import {
  type Cursor,
  type Frame,
  type LeaveEvent,
  type Mode,
  memoryStore,
  printCursor,
  type WorkflowEvent,
} from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { lateClock, ManualClock, settle, turns } from "../support/clock.js";
import { Crowd } from "../support/crowd.js";
import { as, type FrameOf, range } from "../support/frames.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { type SlowClient, type SlowKind, slowClient } from "../support/slow.js";
import { connect, type Viewer } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";
const MIB = 1024 * 1024;
const BYE = { code: 1012, error: { code: "draining" } };

async function start(options: ServerOptions = {}) {
  const server = await startServer(options);
  const left: LeaveEvent[] = [];
  server.monitor.on("leave", (event) => left.push(event));
  for (const jobId of [JOB, "second", "third"]) {
    await server.monitor.publish({ type: "job", jobId, status: "running" });
  }
  return { server, left };
}

/** A viewer that watches what it subscribes to. */
async function watchMany(server: TestServer, jobIds: string[]): Promise<Viewer> {
  const viewer = connect(`ws://127.0.0.1:${server.port}/ws`);
  await viewer.opened;
  for (const jobId of jobIds) {
    viewer.socket.send(JSON.stringify({ type: "subscribe", jobId }));
    await viewer.expect("snapshot");
  }
  return viewer;
}

async function eventStream(server: TestServer, after = ""): Promise<SlowClient> {
  const client = await slowClient(server.port, `/jobs/${JOB}/events?after=${after}`, "sse");
  client.read();
  await until("it is served", () => client.frames.length > 0);
  return client;
}

describe("[D9] a node that goes", () => {
  test("[D9] tells viewers of every kind to come back: 1012, problem, an answer", async () => {
    const { server, left } = await start({ drainMs: 200 });
    const { monitor } = server;
    const single = await server.watch(JOB);
    await single.expect("snapshot");
    const many = await watchMany(server, [JOB, "second", "third"]);
    const idle = await watchMany(server, []);
    const stream = await eventStream(server);
    const cursor = printCursor((await monitor.get(JOB)) as Cursor);
    const polls = [
      server.get(`/jobs/${JOB}/events?wait=20&after=${cursor}`),
      server.get(`/jobs/${JOB}?wait=20`, { "if-none-match": `"${cursor}"` }),
    ];
    await until("they wait", () => monitor.stats().viewers.longPoll === 2);

    await inTime("app.close()", server.app.close(), 8_000);
    expect(await single.readToEnd()).toMatchObject([
      { type: "error", jobId: JOB, code: "draining", retryable: true },
    ]);
    const told = await many.readToEnd();
    expect(told.map((frame) => as("error", frame).jobId).sort()).toEqual([JOB, "second", "third"]);
    expect(await idle.readToEnd()).toMatchObject([{ type: "error", code: "draining" }]);
    for (const viewer of [single, many, idle]) expect((await viewer.closed).code).toBe(1012);
    await until("the stream is over", () => stream.closed);
    expect(stream.frames.at(-1)).toMatchObject({ type: "error", code: "draining" });
    expect(stream.tail).toContain("event: problem\n");
    expect(stream.tail.endsWith("0\r\n\r\n")).toBe(true);
    expect((await Promise.all(polls)).map(({ status }) => status)).toEqual([204, 304]);
    expect(left.map(({ code }) => code)).toEqual(range(1, 5).map(() => 1012));
    expect(monitor.stats()).toMatchObject({ rooms: 0, parked: 0, pinnedBytes: 0 });
  });

  test("[D9] answers waiting polls at once, and tells the others afterwards", async () => {
    const clock = new ManualClock();
    const { server } = await start({ clock });
    const { monitor } = server;
    const crowd = new Crowd();
    await crowd.joinMany(monitor, JOB, 200);
    const after = (await monitor.get(JOB)) as Cursor;
    const pollers = await crowd.joinMany(monitor, JOB, 300, { mode: "long-poll", after });
    const drained = monitor.drain();
    expect(pollers.every(({ ends }) => ends.length === 1)).toBe(true);
    for (const { ends, writes } of pollers) {
      expect(ends).toMatchObject([BYE]);
      expect(writes).toBe(0);
    }
    expect(crowd.all.filter(({ ends }) => ends.length === 0)).toHaveLength(150);
    await settle(clock, drained);
    expect(crowd.faults).toEqual([]);
  });

  test.each([
    { members: 500, drainMs: 2_000, each: 50, portions: 10 },
    { members: 4_000, drainMs: 2_000, each: 100, portions: 40 },
    { members: 500, drainMs: 0, each: 500, portions: 1 },
    { members: 30, drainMs: 2_000, each: 30, portions: 1 },
  ])(
    "[D9] tells $members viewers in $portions portions of $each, every 50 ms of $drainMs",
    async ({ members, drainMs, each, portions }) => {
      const clock = new ManualClock();
      const { server } = await start({ clock, drainMs });
      const crowd = new Crowd();
      await crowd.joinMany(server.monitor, JOB, members / 2);
      await crowd.joinMany(server.monitor, "second", members / 2);
      const told = () => crowd.all.filter(({ ends }) => ends.length > 0).length;
      let drained = false;
      void server.monitor.drain().then(() => {
        drained = true;
      });
      for (const n of range(1, portions)) {
        expect(told()).toBe(n * each);
        if (n === portions) break;
        expect(drained).toBe(false);
        clock.advance(49);
        await turns(1);
        expect(told()).toBe(n * each);
        clock.advance(1);
        await turns(1);
      }
      await turns(1);
      expect(drained).toBe(true);
      expect(crowd.faults).toEqual([]);
      for (const { ends, over } of crowd.all) {
        expect(ends).toMatchObject([BYE]);
        expect(over).toBe("error");
      }
      expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
    },
  );

  test("[D9] makes up for timers that come late", async () => {
    const clock = new ManualClock();
    const late = { by: 0 };
    const { server } = await start({
      clock: lateClock(clock, late),
    });
    const crowd = new Crowd();
    await crowd.joinMany(server.monitor, JOB, 1_000);
    const drained = server.monitor.drain();
    late.by = 2_000;
    clock.advance(50);
    await inTime("the drain", drained);
    for (const { ends } of crowd.all) expect(ends).toHaveLength(1);
  });

  test("[D9] tells nobody twice: who left meanwhile, who is told by two calls", async () => {
    const clock = new ManualClock();
    const { server, left } = await start({ clock });
    const crowd = new Crowd();
    const members = await crowd.joinMany(server.monitor, JOB, 200);
    const first = server.monitor.drain();
    const gone = members.filter(({ ends }) => ends.length === 0).slice(0, 20);
    for (const onlooker of gone) onlooker.leave();
    const second = server.monitor.drain();
    expect(members.filter(({ ends }) => ends.length > 0)).toHaveLength(50);
    const closing = server.monitor.close();
    await settle(clock, Promise.all([first, second, closing, server.monitor.drain()]), {
      stepMs: 50,
      steps: 200,
    });
    for (const onlooker of members) {
      expect(onlooker.ends).toHaveLength(gone.includes(onlooker) ? 0 : 1);
    }
    expect(crowd.faults).toEqual([]);
    expect(left).toHaveLength(200);
    expect(clock.timers).toBe(0);
  });

  test("[D9] goes once: a listener on leave may drain, too", async () => {
    const clock = new ManualClock();
    const { server, left } = await start({ clock });
    const { monitor } = server;
    const crowd = new Crowd();
    await crowd.joinMany(monitor, JOB, 500);
    const drains: Promise<void>[] = [];
    monitor.on("leave", () => drains.push(monitor.drain()));
    const first = monitor.drain();
    expect(left).toHaveLength(50);
    await settle(clock, Promise.all([first, ...drains]), { stepMs: 50 });
    expect(left).toHaveLength(500);
    expect(crowd.faults).toEqual([]);
  });

  test("[D9] goes once: a listener on leave may close the adapter, too", async () => {
    const { server, left } = await start();
    const viewers = await Promise.all([server.watch(JOB), server.watch(JOB)]);
    for (const viewer of viewers) await viewer.expect("snapshot");
    const closes: Promise<void>[] = [];
    server.monitor.on("leave", () => closes.push(server.adapter.close()));
    await inTime("adapter.close()", server.adapter.close());
    await inTime("those of the listener", Promise.all(closes));
    expect(left).toMatchObject([{ code: 1012 }, { code: 1012 }]);
  });

  test("[D9] takes no new viewers: they are told to come back, on every transport", async () => {
    const clock = new ManualClock();
    const { server } = await start({ clock });
    const crowd = new Crowd();
    await crowd.joinMany(server.monitor, JOB, 500);
    const many = await watchMany(server, ["second"]);
    const drained = server.monitor.drain(); // it takes half a second, of a clock that stands still
    const late = connect(server.wsUrl(JOB));
    expect(await late.expect("error")).toMatchObject({ code: "draining", retryable: true });
    expect((await late.closed).code).toBe(1012);
    many.socket.send(JSON.stringify({ type: "subscribe", jobId: JOB }));
    expect(await many.expect("error")).toMatchObject({ jobId: JOB, code: "draining" });
    const stream = { accept: "text/event-stream" };
    for (const answer of [
      await server.get(`/jobs/${JOB}/events`, stream),
      await server.get(`/jobs/${JOB}/events`),
      await server.get(`/jobs/${JOB}/events?wait=20`),
    ]) {
      expect(answer.status).toBe(503);
      expect(answer.json()).toMatchObject({ code: "draining" });
    }
    await expect(crowd.join(server.monitor, JOB)).rejects.toMatchObject({ code: "draining" });
    await settle(clock, drained);
    expect((await many.closed).code).toBe(1012);
  });

  test("[D9] keeps nobody who was about to come in", async () => {
    const clock = new ManualClock();
    const { server } = await start({ clock, store: memoryStore({ clock }) });
    const crowd = new Crowd();
    await crowd.joinMany(server.monitor, JOB, 100);
    const coming = crowd.joinMany(server.monitor, "second", 10).then(
      () => "in",
      () => "refused",
    );
    const drained = server.monitor.drain();
    const outcome = await coming;
    await settle(clock, drained);
    const late = crowd.all.slice(100);
    for (const { ends } of late) expect(ends).toHaveLength(outcome === "in" ? 1 : 0);
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
  });
});

describe("[D9] with viewers that do not read", () => {
  /** More than the kernel takes. */
  const LARGE = "x".repeat(10 * MIB);
  const SOCKETS: [SlowKind, string][] = [
    ["ws", `/ws?jobId=${JOB}`],
    ["ws", "/ws?jobId=second"], // was told all of a job that is over
  ];
  const STREAMS: [SlowKind, string][] = [
    ["sse", `/jobs/${JOB}/events`],
    ["sse", "/jobs/second/events"],
  ];
  const POLLS: [SlowKind, string][] = [
    ["http", `/jobs/${JOB}`],
    ["http", `/jobs/${JOB}/events`],
  ];

  /** A server on which all of these are stuck. */
  async function stuck(asked: [SlowKind, string][]): Promise<TestServer> {
    const { server, left } = await start({ present: () => LARGE, drainMs: 100 });
    await server.monitor.publish({ type: "job", jobId: "second", status: "completed" });
    for (const [kind, path] of asked) await slowClient(server.port, path, kind);
    const viewers = asked.filter(([kind]) => kind !== "http").length;
    await until("they are stuck", () => {
      const { viewers: now, pinnedBytes } = server.monitor.stats();
      return now.ws + now.sse + left.length === viewers && pinnedBytes >= 2 * LARGE.length;
    });
    await server.get("/jobs"); // a round trip: the polls are, too
    return server;
  }

  test("[D9] app, monitor and adapter are closed soon, and hold nothing", {
    timeout: 20_000,
  }, async () => {
    const app = await stuck([...SOCKETS, ...STREAMS, ...POLLS]);
    const monitor = await stuck([...SOCKETS, ...STREAMS]);
    const adapter = await stuck(SOCKETS);
    await Promise.all([
      inTime("app.close()", app.app.close(), 8_000),
      inTime("monitor.close()", monitor.monitor.close(), 8_000),
      inTime("adapter.close()", adapter.adapter.close(), 8_000),
    ]);
    for (const server of [app, monitor, adapter]) {
      await until("nothing is held", () => server.monitor.stats().pinnedBytes === 0);
      expect(server.monitor.stats().viewers).toMatchObject({ ws: 0, sse: 0 });
    }
  });
});

describe("[D9] two nodes with one store", () => {
  /** What a viewer was shown, over several connections. */
  class Journey {
    readonly messages: string[] = [];
    cursor: string | undefined;
    ended = false;
    arrivals = 0;

    take(frames: readonly Frame[]): void {
      this.arrivals += 1;
      for (const frame of frames) {
        if (frame.type === "snapshot") {
          expect(frame.resumed).toBe(this.cursor !== undefined);
          for (const event of frame.events) this.#see(event);
        } else if (frame.type === "update") this.#see(frame.event);
        else if (frame.type === "end") this.ended = true;
        if ("cursor" in frame) this.cursor = frame.cursor;
      }
    }

    get query(): Record<string, string> {
      return this.cursor === undefined ? {} : { after: this.cursor };
    }

    #see(event: WorkflowEvent): void {
      if ("message" in event && event.message) this.messages.push(event.message);
    }
  }

  type Travel = (journey: Journey, server: TestServer) => Promise<void>;

  const bySocket =
    (mode: Mode): Travel =>
    async (journey, server) => {
      const viewer = connect(server.wsUrl(JOB, { mode, ...journey.query }));
      journey.take(await viewer.readToEnd());
    };

  const byStream: Travel = async (journey, server) => {
    const query = new URLSearchParams(journey.query);
    const client = await slowClient(server.port, `/jobs/${JOB}/events?${query}`, "sse");
    client.read();
    await until(
      "the stream is over",
      () => client.closed || client.tail.endsWith("0\r\n\r\n"),
      8_000,
    );
    journey.take(client.frames);
  };

  const byPolls: Travel = async (journey, server) => {
    for (;;) {
      const query = new URLSearchParams({ wait: "20", ...journey.query });
      const asked = server.get(`/jobs/${JOB}/events?${query}`);
      const answer = await asked.catch(() => undefined); // a server that closes takes nobody in
      if (answer?.status !== 200) return;
      const frame = answer.json<FrameOf<"snapshot">>();
      journey.take([frame]);
      journey.ended = frame.done;
      if (frame.done) return;
    }
  };

  test("[D9] who comes back to the other one has every event that was acknowledged, once", {
    timeout: 20_000,
  }, async () => {
    const store = memoryStore();
    const options = { store, drainMs: 300 };
    const here = await startServer(options);
    const there = await startServer(options);
    await here.monitor.publish({ type: "job", jobId: JOB, status: "running" });

    const ways = [bySocket("full"), bySocket("delta"), byStream, byPolls];
    const journeys = range(1, 80).map((n) => {
      const journey = new Journey();
      const travel = ways[n % ways.length] as Travel;
      const whole = (async () => {
        await travel(journey, here);
        while (!journey.ended) await travel(journey, there);
      })();
      return { journey, whole };
    });
    await until("all are there", () => {
      const { ws, sse, longPoll } = here.monitor.stats().viewers;
      return ws + sse + longPoll === journeys.length;
    });

    const acknowledged: string[] = [];
    let over = false;
    const publishing = Promise.all(
      [here, there].map(async ({ monitor }, node) => {
        for (let n = 1; !over; n++) {
          const message = `${node} ${n}`;
          const stored = await monitor.publish({ type: "job", jobId: JOB, message }).then(
            () => true,
            () => false, // the monitor is closed, or others came first
          );
          if (stored) acknowledged.push(message);
          await turns(1);
        }
      }),
    );
    await until("some were stored", () => acknowledged.length > 50);
    await inTime("app.close()", here.app.close(), 8_000);
    await here.monitor.close();
    const before = acknowledged.length;
    await until("more were stored", () => acknowledged.length > before + 50);
    over = true;
    await publishing;
    await there.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await inTime("everybody's end", Promise.all(journeys.map(({ whole }) => whole)), 8_000);

    const [first] = journeys;
    for (const { journey } of journeys) {
      expect(journey.arrivals).toBeGreaterThan(1);
      expect(journey.messages).toEqual(first?.journey.messages);
    }
    const seen = new Set(first?.journey.messages);
    expect(seen.size).toBe(first?.journey.messages.length);
    expect(acknowledged.filter((message) => !seen.has(message))).toEqual([]);
    await store.close();
  });
});
