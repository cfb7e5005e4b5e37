import {
  allowAll,
  type Clock,
  createEngine,
  createWorkflowMonitor,
  memoryStore,
  printCursor,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { describe, expect, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { rawConnect, rawUpgrade } from "../support/raw.js";
import { startServer } from "../support/server.js";
import { connect } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";

/** Far below what Node waits for a connection that never sends a request (a minute and more). */
const FAST_MS = 3_000;

/** This machine's clock, which knows how many timers are set. */
function countingClock(): { clock: Clock; timers: () => number } {
  const set = new Set<NodeJS.Timeout>();
  const clock: Clock = {
    now: Date.now,
    monotonic: () => performance.now(),
    setTimeout(fn, ms) {
      const timer = setTimeout(() => {
        set.delete(timer);
        fn();
      }, ms);
      timer.unref();
      set.add(timer);
      return () => {
        set.delete(timer);
        clearTimeout(timer);
      };
    },
  };
  return { clock, timers: () => set.size };
}

/** What keeps this process alive, by kind. */
function resources(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

const sockets = () => {
  const { TCPSocketWrap = 0, TCPServerWrap = 0 } = resources();
  return TCPSocketWrap + TCPServerWrap;
};

describe("app.close() alone", () => {
  test("ends every viewer with 1012, and is fast", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    await server.monitor.publish({ type: "job", jobId: "other", status: "running" });
    const viewers = await Promise.all([
      ...range(1, 10).map(() => server.watch(JOB)),
      ...range(1, 5).map(() => server.watch("other", { mode: "delta" })),
    ]);
    for (const viewer of viewers) await viewer.expect("snapshot");

    await inTime("app.close()", server.app.close(), FAST_MS);
    for (const viewer of viewers) {
      expect(await viewer.readToEnd()).toMatchObject([
        { type: "error", code: "draining", retryable: true },
      ]);
      expect((await viewer.closed).code).toBe(1012);
    }
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
    const codes = server.lines
      .filter(({ message }) => message === "viewer disconnected")
      .map(({ context }) => context.code);
    expect(codes).toEqual(viewers.map(() => 1012));
  });

  test("does not wait for a connection that never sent a request", async () => {
    const server = await startServer();
    const idle = await rawConnect(server.port);
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    await inTime("app.close()", server.app.close(), FAST_MS);
    await until("the idle one is ended", () => idle.ended());
  });

  test("does not wait for a connection that sent half a request", async () => {
    const server = await startServer();
    const half = await rawConnect(server.port);
    half.socket.write("GET /jobs/job HTTP/1.1\r\nHost: x\r\n");
    await server.poll(JOB); // a round trip: the half is there, too
    await inTime("app.close()", server.app.close(), FAST_MS);
    await until("it is ended", () => half.ended());
  });

  test("does not wait for a keep-alive connection that is idle", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const idle = await rawConnect(server.port);
    idle.socket.write("GET /jobs/job HTTP/1.1\r\nHost: x\r\n\r\n");
    await until("it is answered", () => idle.text().includes('"jobId":"job"'));
    await inTime("app.close()", server.app.close(), FAST_MS);
    await until("it is ended", () => idle.ended());
  });

  test.each(["that waits for news", "of whom authorize has not said anything yet"])(
    "does not wait for the connection of a poll %s, which a hook of the host answers later",
    { timeout: 15_000 },
    async (which) => {
      let asked = 0;
      const server = await startServer({
        authorize: () => {
          asked += 1;
          return which === "that waits for news" || new Promise<boolean>(() => {});
        },
        prepare: (app) =>
          app.addHook("onSend", async () => {
            await until("the server is closing", () => !app.server.listening);
          }),
      });
      const cursor = await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
      const poll = await rawConnect(server.port);
      const tag = `If-None-Match: "${printCursor(cursor)}"`;
      poll.socket.write(`GET /jobs/${JOB}?wait=20 HTTP/1.1\r\nHost: x\r\n${tag}\r\n\r\n`);
      await until("it waits", () => asked === 1);
      await inTime("app.close()", server.app.close(), FAST_MS);
      await until("it is ended", () => poll.ended());
      expect(poll.text()).toMatch(/^HTTP\/1.1 (304|503) /);
      expect(poll.text()).toMatch(/^connection: close\r$/im);
    },
  );

  test("does not wait for peers whose upgrade was refused and who do not close", async () => {
    const server = await startServer();
    const refused = [
      await rawUpgrade(server.port, `/ws?jobId=${JOB}`, { Origin: "https://evil.example" }),
      await rawUpgrade(server.port, "/unknown"),
    ];
    expect(refused.map(({ status }) => status)).toEqual([403, 404]);
    await inTime("app.close()", server.app.close(), FAST_MS);
  });

  test("does not wait for viewers who do not answer the close", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => dead.text().includes('"type":"snapshot"'));
    dead.socket.pause();
    await inTime("app.close()", server.app.close(), FAST_MS);
    expect(server.monitor.stats().viewers.ws).toBe(0);
  });

  test("does not wait for a viewer of whom authorize has not said anything yet", async () => {
    let asked = 0;
    const server = await startServer({
      authorize: () => {
        asked += 1;
        return new Promise<boolean>(() => {});
      },
    });
    const viewer = connect(server.wsUrl(JOB));
    await until("it is asked", () => asked === 1);
    await inTime("app.close()", server.app.close(), FAST_MS);
    expect((await viewer.closed).code).toBe(1012);
  }, 15_000);

  test("ends a viewer who comes while it is under way with 1012, or not at all", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const first = await server.watch(JOB);
    await first.expect("snapshot");
    const late = range(1, 20).map(() => connect(server.wsUrl(JOB)));
    const closing = server.app.close();
    late.push(...range(1, 20).map(() => connect(server.wsUrl(JOB))));
    await inTime("app.close()", closing, FAST_MS);
    for (const viewer of late) expect([1012, 1006]).toContain((await viewer.closed).code);
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
  });

  test("leaves the monitor to the programs of its own process", async () => {
    const server = await startServer();
    await server.app.close();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    expect(await server.monitor.get(JOB)).toMatchObject({ status: "running" });
  });
});

describe("monitor.close() and app.close()", () => {
  test.each(["monitor first", "app first", "both at once"])(
    "leave no timer, no listener and no socket behind: %s",
    { timeout: 15_000 },
    async (order) => {
      await until("no socket of another test is left", () => sockets() === 0);
      const before = resources().Timeout ?? 0;
      const { clock, timers } = countingClock();
      const server = await startServer({ clock, heartbeatMs: 50 });
      await Promise.all(
        range(1, 5).map((n) =>
          server.monitor.publish({ type: "job", jobId: `job ${n}`, status: "running" }),
        ),
      );
      const viewers = await Promise.all(range(1, 5).map((n) => server.watch(`job ${n}`)));
      for (const viewer of viewers) await viewer.expect("snapshot");
      viewers[0]?.socket.close(); // its room lingers
      await until("a heartbeat comes", () => (viewers[1]?.frames.length ?? 0) > 1);
      server.engine.emit("stage", { jobId: "job 2", stage: "a", status: "running" });
      expect(sockets()).toBeGreaterThan(0);
      expect(timers()).toBeGreaterThan(0);
      expect(server.engine.listenerCount("stage")).toBe(1);

      if (order === "monitor first") await server.monitor.close();
      if (order === "both at once") await Promise.all([server.monitor.close(), server.app.close()]);
      await inTime("app.close()", server.app.close(), FAST_MS);
      await server.monitor.close();

      for (const viewer of viewers) await viewer.closed;
      await until("no timer of the clock is left", () => timers() === 0);
      for (const name of ["plan", "job", "stage"] as const) {
        expect(server.engine.listenerCount(name)).toBe(0);
      }
      await until("no socket is left", () => sockets() === 0);
      await until("no timer is left", () => (resources().Timeout ?? 0) <= before + 1);
      expect(server.monitor.stats()).toMatchObject({ rooms: 0, parked: 0, viewers: { ws: 0 } });
    },
  );

  test("may be called again and again", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    await Promise.all([server.monitor.close(), server.monitor.close()]);
    await server.monitor.close();
    await Promise.all([server.adapter.close(), server.adapter.close()]);
    await server.adapter.close();
    await Promise.all([server.app.close(), server.app.close()]);
    await server.monitor.drain();
    const lines = server.lines.filter(({ message }) => message === "viewer disconnected");
    expect(lines).toHaveLength(1);
  });

  test("tell every viewer to come back, when the monitor closes first", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    await server.monitor.close();
    expect(await viewer.expect("error")).toMatchObject({ code: "draining", retryable: true });
    expect((await viewer.closed).code).toBe(1012);
    const late = connect(server.wsUrl(JOB));
    expect(await late.expect("error")).toMatchObject({ retryable: true });
    expect((await late.closed).code).toBe(1012);
    expect((await server.poll(JOB)).status).toBe(503);
    expect((await server.get("/jobs")).status).toBe(503);
  });
});

describe("monitor.close()", () => {
  test("stores first what was emitted just before", async () => {
    const store = memoryStore();
    const engine = createEngine();
    const monitor = createWorkflowMonitor({ authorize: allowAll, store });
    monitor.attach(engine);
    for (let n = 1; n <= 300; n++) {
      engine.emit("job", { jobId: JOB, message: `m${n}` });
      engine.emit("job", { jobId: "other", message: `m${n}` });
    }
    await monitor.close();
    for (const jobId of [JOB, "other"]) {
      const record = await store.read(jobId);
      expect(record?.cursor.revision).toBe(300);
      expect(record?.job?.message).toBe("m300");
    }
    await store.close();
  });

  test("shows its viewers what was emitted just before, then sends them away", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    for (let n = 1; n <= 5; n++) server.engine.emit("job", { jobId: JOB, message: `m${n}` });
    await server.monitor.close();
    const read = await viewer.readToEnd();
    expect(read.map(({ type }) => type)).toEqual([...range(1, 5).map(() => "update"), "error"]);
  });

  test("refuses what is published afterwards: closed", async () => {
    const store = memoryStore();
    const engine = createEngine();
    const monitor = createWorkflowMonitor({ authorize: allowAll, store });
    const errors: WorkflowMonitorError[] = [];
    monitor.on("error", (error) => errors.push(error));
    monitor.attach(engine);
    await monitor.close();
    await expect(
      monitor.publish({ type: "job", jobId: JOB, status: "running" }),
    ).rejects.toMatchObject({ name: "WorkflowMonitorError", code: "closed" });
    engine.emit("job", { jobId: JOB, status: "running" });
    expect(await store.read(JOB)).toBeUndefined();
    expect(errors).toEqual([]);
    await store.close();
  });

  test("leaves a store open that it did not make", async () => {
    const store = memoryStore();
    const one = createWorkflowMonitor({ authorize: allowAll, store });
    const other = createWorkflowMonitor({ authorize: allowAll, store });
    await one.publish({ type: "job", jobId: JOB, status: "running" });
    await one.close();
    expect(await other.get(JOB)).toMatchObject({ status: "running" });
    await other.close();
    await store.close();
  });

  test("does not wait longer than drainMs and 3 s for a store that does not answer", async () => {
    const clock = new ManualClock();
    const never = <T>() => new Promise<T>(() => {});
    const monitor = createWorkflowMonitor({
      authorize: allowAll,
      clock,
      store: { ...memoryStore(), read: () => never(), append: () => never() },
    });
    const publishing = monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const outcome = publishing.then(
      () => "stored",
      (error: WorkflowMonitorError) => error.code,
    );
    let closed = false;
    const closing = monitor.close().then(() => {
      closed = true;
    });
    await until("time has passed", () => {
      clock.advance(100);
      return closed || clock.now() > Date.parse("2026-01-01T00:00:05.000Z");
    });
    expect(closed).toBe(true);
    await closing;
    void outcome; // what the store holds back, nobody can tell
    expect(clock.timers).toBe(0);
  });

  test("ends a store's retries: what waits is rejected with closed", async () => {
    const clock = new ManualClock();
    const away = () => Promise.reject(new Error("away"));
    const monitor = createWorkflowMonitor({
      authorize: allowAll,
      clock,
      store: { ...memoryStore(), read: away, append: away },
    });
    const publishing = monitor.publish({ type: "job", jobId: JOB, status: "running" });
    let closed = false;
    const closing = monitor.close().then(() => {
      closed = true;
    });
    await until("it is closed", () => {
      clock.advance(100);
      return closed;
    });
    await closing;
    await expect(publishing).rejects.toMatchObject({ code: "closed" });
    expect(clock.timers).toBe(0);
  });

  test("ends the programs that watch in this process", async () => {
    const monitor = createWorkflowMonitor({ authorize: allowAll });
    await monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const types: string[] = [];
    const watching = (async () => {
      for await (const frame of monitor.watch(JOB)) types.push(frame.type);
    })();
    await until("it watches", () => types.length === 1);
    await monitor.close();
    await inTime("the end of the watch", watching);
    expect(types).toEqual(["snapshot", "error"]);
  });
});

describe("attachWebSocket().close()", () => {
  test("ends its viewers with 1012 and leaves the http server working", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewers = await Promise.all(range(1, 5).map(() => server.watch(JOB)));
    for (const viewer of viewers) await viewer.expect("snapshot");
    await inTime("adapter.close()", server.adapter.close(), FAST_MS);
    for (const viewer of viewers) {
      expect(await viewer.expect("error")).toMatchObject({ code: "draining", retryable: true });
      expect((await viewer.closed).code).toBe(1012);
    }
    expect(server.monitor.stats().viewers.ws).toBe(0);
    expect(server.app.server.listenerCount("upgrade")).toBe(0);
    expect((await server.poll(JOB)).status).toBe(200);
    expect((await rawUpgrade(server.port, `/ws?jobId=${JOB}`)).status).not.toBe(101);

    const second = attachWebSocket(server.app.server, { monitor: server.monitor });
    const back = await server.watch(JOB);
    expect(await back.expect("snapshot")).toMatchObject({ jobId: JOB });
    await second.close();
  });

  test("refuses a handshake that a host hands over afterwards", async () => {
    const server = await startServer();
    await server.adapter.close();
    server.app.server.on("upgrade", server.adapter.handleUpgrade);
    expect((await rawUpgrade(server.port, `/ws?jobId=${JOB}`)).status).toBe(503);
  });

  test("resolves also when a peer does not answer the close", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const dead = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => dead.text().includes('"type":"snapshot"'));
    await inTime("adapter.close()", server.adapter.close(), FAST_MS);
    expect(server.monitor.stats().viewers.ws).toBe(0);
  });
});
