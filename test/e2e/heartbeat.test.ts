import type { LeaveEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode, rawUpgrade } from "../support/raw.js";
import { startServer } from "../support/server.js";
import type { Viewer } from "../support/viewer.js";
import { until } from "../support/wait.js";

const JOB = "job";
const BEAT_MS = 25_000;

const beats = (viewer: Viewer) => viewer.frames.filter(({ type }) => type === "heartbeat");

/** A server on a clock that the test moves, with one job. */
async function start() {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: BEAT_MS });
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
      clock: {
        now: () => clock.now() + late.by,
        setTimeout: clock.setTimeout,
      },
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
