import { allowAll, createWorkflowMonitor, type LeaveEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { lateClock, ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode, pings, rawUpgrade } from "../support/raw.js";
import { type ServerOptions, startServer } from "../support/server.js";
import { slowClient } from "../support/slow.js";
import type { Viewer } from "../support/viewer.js";
import { until } from "../support/wait.js";

const JOB = "job";
const BEAT_MS = 25_000;

const beats = (viewer: Viewer) => viewer.frames.filter(({ type }) => type === "heartbeat");

/** A server on a clock that the test moves, with one job. */
async function start(options: ServerOptions = {}) {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: BEAT_MS, ...options });
  const left: LeaveEvent[] = [];
  server.monitor.on("leave", (event) => left.push(event));
  await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
  return { clock, server, left };
}

describe("heartbeats", () => {
  test("come every heartbeatMs, with the time, and are no update", async () => {
    const { clock, server } = await start();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    for (const n of range(1, 3)) {
      clock.advance(BEAT_MS);
      await until("the beat comes", () => beats(viewer).length === n);
      expect(beats(viewer)[n - 1]).toEqual({ type: "heartbeat", timestamp: expect.any(String) });
    }
    const times = beats(viewer).map((frame) =>
      frame.type === "heartbeat" ? Date.parse(frame.timestamp) : 0,
    );
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBe(BEAT_MS);
    expect((times[2] ?? 0) - (times[1] ?? 0)).toBe(BEAT_MS);
    expect(viewer.frames).toHaveLength(4);
  });

  test("come in real time, too", async () => {
    const server = await startServer({ heartbeatMs: 100 });
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = await server.watch(JOB);
    expect(await viewer.expect("snapshot")).toMatchObject({ heartbeatMs: 100 });
    await until("ten beats came", () => beats(viewer).length >= 10, 10_000);
    expect(viewer.socket.readyState).toBe(viewer.socket.OPEN);
    expect(server.monitor.stats().viewers.ws).toBe(1);
  });

  test("are spread: many viewers do not beat in one tick", async () => {
    const { clock, server } = await start();
    const viewers = await Promise.all(range(1, 25).map(() => server.watch(JOB)));
    for (const viewer of viewers) await viewer.expect("snapshot");
    clock.advance(BEAT_MS);
    await until("each had a beat", () => viewers.every((viewer) => beats(viewer).length === 1));
    const times = viewers.map((viewer) => JSON.stringify(beats(viewer)));
    expect(new Set(times).size).toBeGreaterThanOrEqual(20);
  });

  test("cost nothing when nobody is connected", async () => {
    const { clock, server } = await start();
    const before = clock.timers;
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    viewer.socket.close();
    await until("it has left", () => server.monitor.stats().viewers.ws === 0);
    clock.advance(5_000); // the room lingers
    await until("no timer is left of it", () => clock.timers <= before);
  });
});

describe("a half-open peer", () => {
  test.each(["reads, but never answers", "does not even read"])(
    "that %s is found within three beats: 4001",
    async (how) => {
      const { clock, server, left } = await start();
      const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
      await until("it is served", () => dead.text().includes('"type":"snapshot"'));
      if (how === "does not even read") dead.socket.pause();
      const healthy = await server.watch(JOB);
      await healthy.expect("snapshot");
      let pings = 0;
      healthy.socket.on("ping", () => {
        pings += 1;
      });
      for (const n of range(1, 3)) {
        expect(left).toEqual([]);
        clock.advance(BEAT_MS);
        await until("the healthy one answered", () => pings === n && beats(healthy).length === n);
        // Its pong went out before: a round trip brings it to the server.
        healthy.socket.send('{"type":"unknown"}');
        await server.poll(JOB);
        await turns();
      }
      expect(left).toMatchObject([
        { jobId: JOB, transport: "ws", code: 4001, reason: expect.any(String), delivered: 0 },
      ]);
      const lines = server.lines.filter(({ message }) => message === "viewer disconnected");
      expect(lines).toMatchObject([{ level: "info", context: { jobId: JOB, code: 4001 } }]);
      expect(server.monitor.stats().viewers.ws).toBe(1);
      if (how === "reads, but never answers") await until("it is cut", () => dead.ended());

      server.engine.emit("job", { jobId: JOB, message: "goes on" });
      expect((await healthy.expect("update")).job?.message).toBe("goes on");
    },
  );

  test("is found in real time, and a healthy one is kept", { timeout: 15_000 }, async () => {
    const server = await startServer({ heartbeatMs: 200 });
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const healthy = await server.watch(JOB);
    const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => dead.text().includes('"type":"snapshot"'));
    await until("it is found", () => left.length > 0, 10_000);
    expect(left).toMatchObject([{ code: 4001 }]);
    await until("it is cut", () => dead.ended());
    const count = beats(healthy).length;
    await until("the other beats on", () => beats(healthy).length >= count + 5);
    expect(left).toHaveLength(1);
  });

  test.each(["pongs", "messages"])("that sends nothing but %s is kept", async (what) => {
    const { clock, server, left } = await start();
    const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => client.text().includes('"type":"snapshot"'));
    for (const n of range(1, 6)) {
      clock.advance(BEAT_MS);
      await until(
        "the beat comes",
        () => client.text().split('"type":"heartbeat"').length - 1 === n,
      );
      client.socket.write(
        what === "pongs" ? clientFrame(Opcode.pong, "") : clientFrame(Opcode.text, '{"type":"x"}'),
      );
      await server.poll(JOB);
      await turns();
    }
    expect(left).toEqual([]);
    expect(server.monitor.stats().viewers.ws).toBe(1);
  });

  test("is not blamed for a stall of this process", async () => {
    const clock = new ManualClock();
    const late = { by: 0 };
    // A process that was stopped: when it goes on, every timer is late.
    const server = await startServer({
      clock: lateClock(clock, late),
      heartbeatMs: BEAT_MS,
    });
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => client.text().includes('"type":"snapshot"'));
    clock.advance(2 * BEAT_MS); // one beat from being let go
    expect(left).toEqual([]);
    late.by = 10 * BEAT_MS;
    clock.advance(1_000);
    expect(left).toEqual([]);
    client.socket.write(clientFrame(Opcode.pong, ""));
    await server.poll(JOB);
    await turns();
    clock.advance(BEAT_MS);
    expect(left).toEqual([]);
  });
});

describe("[D8] beats", () => {
  /** Connections in memory, and how often each of them was called. */
  function wheel(heartbeatMs = BEAT_MS) {
    const clock = new ManualClock();
    const monitor = createWorkflowMonitor({ authorize: allowAll, clock, heartbeatMs });
    const { heartbeats } = monitor.egress;
    let beats = 0;
    const add = () => {
      const connection = {
        beats: 0,
        late: 0,
        beat(late: boolean) {
          beats += 1;
          connection.beats += 1;
          if (late) connection.late += 1;
        },
        goAway() {},
      };
      const slot = heartbeats.add(connection);
      return { connection, remove: () => heartbeats.remove(connection, slot) };
    };
    /** How many there are in each 25th part of `heartbeatMs`. */
    const round = () =>
      range(1, 25).map(() => {
        const before = beats;
        clock.advance(heartbeatMs / 25);
        return beats - before;
      });
    return { clock, heartbeats, add, round };
  }

  test("[D8] of 1,000 connections that came at once are spread over heartbeatMs, one for each", () => {
    const { add, round } = wheel();
    const all = range(1, 1_000).map(add);
    for (const _ of range(1, 3)) expect(round()).toEqual(range(1, 25).map(() => 40));
    expect(new Set(all.map(({ connection }) => connection.beats))).toEqual(new Set([3]));
  });

  test("[D8] stay spread while connections come and go", () => {
    const { add, round, heartbeats } = wheel();
    let all = range(1, 500).map(add);
    for (const _ of range(1, 10)) {
      for (const { remove } of all.slice(0, 200)) {
        remove();
        remove();
      }
      all = [...all.slice(200), ...range(1, 200).map(add)];
      expect(heartbeats.connections()).toHaveLength(500);
      for (const count of round()) expect(count).toBe(20);
    }
  });

  test("[D8] are one timer, and none when nobody is there", () => {
    const { clock, add } = wheel();
    const before = clock.timers;
    const all = range(1, 100).map(add);
    expect(clock.timers).toBe(before + 1);
    clock.advance(100 * BEAT_MS);
    expect(clock.timers).toBe(before + 1);
    for (const { remove } of all) remove();
    expect(clock.timers).toBe(before);
    const { connection } = add();
    clock.advance(BEAT_MS);
    expect(connection.beats).toBe(1);
  });

  test("[D8] reach event streams, too", async () => {
    const { clock, server } = await start();
    const viewers = await Promise.all(
      range(1, 25).map(async () => {
        const client = await slowClient(server.port, `/jobs/${JOB}/events`, "sse");
        client.read();
        return client;
      }),
    );
    await until("all are served", () => viewers.every(({ frames }) => frames.length === 1));
    for (const n of range(1, 3)) {
      clock.advance(BEAT_MS);
      await until("all had a beat", () => viewers.every(({ frames }) => frames.length === 1 + n));
    }
    for (const { frames } of viewers) {
      expect(frames.map(({ type }) => type)).toEqual([
        "snapshot",
        ...range(1, 3).map(() => "heartbeat"),
      ]);
    }
    const times = viewers.map(({ texts }) => texts[1]);
    expect(new Set(times).size).toBe(25);
  });

  test.each(["ws", "sse"] as const)("[D8] add nothing to a line that is full: %s", async (kind) => {
    const { clock, server } = await start({ present: () => "x".repeat(10_000_000) });
    const path = kind === "ws" ? `/ws?jobId=${JOB}` : `/jobs/${JOB}/events`;
    await slowClient(server.port, path, kind);
    await until("it is served", () => server.monitor.stats().pinnedBytes > 10_000_000);
    const { pinnedBytes } = server.monitor.stats();
    clock.advance(4 * BEAT_MS);
    expect(server.monitor.stats()).toMatchObject({ pinnedBytes, viewers: { [kind]: 1 } });
  });
});

describe("[D8] a WebSocket that says nothing", () => {
  test("[D8] gets two beats and is ended at the third, whichever slot it has", async () => {
    const { clock, server, left } = await start();
    const dead = await Promise.all(
      range(1, 25).map(() => rawUpgrade(server.port, `/ws?jobId=${JOB}`)),
    );
    const count = (one: string, what: string) => one.split(what).length - 1;
    await until("all are served", () => dead.every((one) => count(one.text(), "snapshot") === 1));
    for (const n of range(1, 2)) {
      clock.advance(BEAT_MS);
      await until("all had a beat", () =>
        dead.every((one) => count(one.text(), '"type":"heartbeat"') === n),
      );
      expect(left).toEqual([]);
    }
    clock.advance(BEAT_MS);
    expect(left.map(({ code }) => code)).toEqual(dead.map(() => 4001));
    await until("all are cut", () => dead.every((one) => one.ended()));
    for (const one of dead) expect(count(one.text(), '"type":"heartbeat"')).toBe(2);
  });

  test("[D8] is ended although there are updates all the time", async () => {
    const { clock, server, left } = await start();
    const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => dead.text().includes("snapshot"));
    for (const n of range(1, 75)) {
      if (n <= 50) expect(left).toEqual([]);
      await server.monitor.publish({ type: "job", jobId: JOB, message: `${n}` });
      clock.advance(1_000);
    }
    expect(left).toMatchObject([{ code: 4001 }]);
  });

  test("[D8] is ended as fast when it has answered for all that it was sent before", async () => {
    const { clock, server, left } = await start({ present: () => "x".repeat(2_000_000) });
    const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => dead.received().length > 2_000_000);
    const beat = async (n: number) => {
      clock.advance(BEAT_MS);
      await until("it had a beat", () => dead.text().split("timestamp").length - 1 === n);
    };
    await beat(1);
    await until("it had a ping", () => pings(dead).length === 1);
    dead.socket.write(clientFrame(Opcode.pong, pings(dead)[0] as string));
    await server.get("/jobs"); // a round trip: it is there, too
    await beat(2);
    await beat(3);
    expect(left).toEqual([]);
    clock.advance(BEAT_MS);
    expect(left).toMatchObject([{ code: 4001 }]);
  });

  test("[D8] has answered for no more than what came before the ping that it answers", async () => {
    const { clock, server, left } = await start({ present: () => "x".repeat(3_000_000) });
    const far = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => far.received().length > 3_000_000);
    clock.advance(BEAT_MS);
    await until("it had a ping", () => pings(far).length === 1);
    await server.monitor.publish({ type: "job", jobId: JOB, message: "more" });
    await until("it is served", () => far.received().length > 6_000_000);
    clock.advance(BEAT_MS);
    far.socket.write(clientFrame(Opcode.pong, pings(far)[0] as string));
    await server.get("/jobs"); // a round trip: it is there, too
    // 3 MB are on their way since: 183 s, and two beats.
    for (const _ of range(1, 9)) clock.advance(BEAT_MS);
    expect(left).toEqual([]);
    clock.advance(BEAT_MS);
    expect(left).toMatchObject([{ code: 4001 }]);
  });

  test("[D8] learns nothing from pongs that it was not asked for", async () => {
    const { clock, server, left } = await start({ present: () => "x".repeat(1_000_000) });
    const odd = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => odd.received().length > 1_000_000);
    for (const payload of ["", "x", "-1", "Infinity", "1e300", "99999999999"]) {
      odd.socket.write(clientFrame(Opcode.pong, payload));
    }
    await server.get("/jobs"); // a round trip: they are there, too
    // 1 MB may be on its way for 61 s: two beats more.
    for (const _ of range(1, 4)) clock.advance(BEAT_MS);
    expect(left).toEqual([]);
    clock.advance(BEAT_MS);
    expect(left).toMatchObject([{ code: 4001 }]);
  });

  test("[D8] is kept when this process stood still, whenever and however often it did", async () => {
    const clock = new ManualClock();
    const late = { by: 0 };
    const server = await startServer({
      clock: lateClock(clock, late),
      heartbeatMs: BEAT_MS,
    });
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewers = await Promise.all(range(1, 50).map(() => server.watch(JOB)));
    for (const viewer of viewers) await viewer.expect("snapshot");
    for (const n of range(1, 100)) {
      // Every few seconds it stands still for a minute; what came meanwhile is read afterwards.
      if (n % 7 === 0) late.by += 60_000;
      clock.advance(1_000);
      await server.poll(JOB);
      await turns();
    }
    expect(left).toEqual([]);
    expect(server.monitor.stats().viewers.ws).toBe(50);
  });
});
