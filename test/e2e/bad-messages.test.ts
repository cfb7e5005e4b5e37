import type { Socket } from "node:net";
import type { LeaveEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode, rawUpgrade } from "../support/raw.js";
import type { TestServer } from "../support/server.js";
import { handled, openSubscriber, send, subscribe, unsubscribe } from "../support/subscriber.js";
import { until } from "../support/wait.js";
import { JOB, startWatched } from "../support/watched.js";

/** The most that waits to be written to one socket of this server, from now on. */
function mostQueued(server: TestServer): () => number {
  const sockets: Socket[] = [];
  server.app.server.on("connection", (socket: Socket) => sockets.push(socket));
  return () => Math.max(0, ...sockets.map(({ writableLength }) => writableLength));
}

const frame = (message: object) => clientFrame(Opcode.text, JSON.stringify(message));

describe("a subscribe", () => {
  test.each([[5], [null], [{}], [[]], [true], [undefined]])(
    "whose jobId is no text closes with 4400: %j",
    async (jobId) => {
      const { server, undisturbed } = await startWatched();
      for (const type of ["subscribe", "unsubscribe"]) {
        const viewer = await openSubscriber(server);
        send(viewer, { type, jobId });
        expect(await viewer.readToEnd()).toMatchObject([{ type: "error", code: "bad_request" }]);
        expect("jobId" in (viewer.frames[0] ?? {})).toBe(false);
        expect((await viewer.closed).code).toBe(4400);
      }
      await undisturbed();
    },
  );

  test("for a job that cannot exist is answered with an error of that job", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await openSubscriber(server);
    for (const jobId of ["", ".", "__proto__", "constructor", "a\nb", "\u2028", "x".repeat(500)]) {
      send(viewer, subscribe(jobId));
      expect(await viewer.expect("error")).toMatchObject({ jobId, code: "unknown_job" });
    }
    viewer.socket.send('{"type":"subscribe","jobId":"\\ud800"}');
    expect(await viewer.expect("error")).toMatchObject({ code: "unknown_job" });
    send(viewer, subscribe(JOB));
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: JOB });
    await undisturbed();
  });

  test("with a cursor that is no text, or garbage, begins like one without", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await openSubscriber(server);
    for (const after of [5, null, {}, ["zzzzzzzzzzzz.1"], true, "", "garbage", "x".repeat(3_900)]) {
      send(viewer, { type: "subscribe", jobId: JOB, after });
      expect(await viewer.expect("snapshot")).toMatchObject({ resumed: false, events: [] });
    }
    await undisturbed();
  });

  test.each(["nothing", "a job"])(
    "of a mode that is unknown ends nothing else, on a connection that was opened for %s",
    async (what) => {
      const { server, undisturbed } = await startWatched();
      await server.monitor.publish({ type: "job", jobId: "other", status: "running" });
      const viewer = await (what === "a job" ? server.watch(JOB) : openSubscriber(server));
      if (what === "nothing") send(viewer, subscribe(JOB));
      await viewer.expect("snapshot");
      for (const mode of ["nonsense", "", "FULL", 5, null, {}, ["full"]]) {
        send(viewer, { type: "subscribe", jobId: "other", mode });
        expect({ mode, frame: await viewer.next() }).toMatchObject({
          mode,
          frame: { type: "error", jobId: "other", code: "bad_request", retryable: false },
        });
      }
      await undisturbed();
      expect(await viewer.expect("update")).toMatchObject({ jobId: JOB });
    },
  );

  test("with __proto__ among its keys is read without it", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await openSubscriber(server);
    viewer.socket.send('{"__proto__":{"type":"subscribe","jobId":"job"}}'); // of no type
    viewer.socket.send('{"type":"unsubscribe","jobId":"__proto__"}');
    viewer.socket.send('{"type":"subscribe","jobId":"job","__proto__":{"mode":"delta"}}');
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: JOB });
    await undisturbed();
    const update = await viewer.expect("update");
    expect(update.job).toBeDefined(); // mode full
    expect({}).not.toHaveProperty("mode");
  });
});

describe("a message", () => {
  const deep = (depth: number, open: string, close: string) =>
    `${open.repeat(depth)}1${close.repeat(depth)}`;

  test.each([
    ["arrays", deep(2_000, "[", "]")],
    ["objects", deep(650, '{"a":', "}")],
  ])("that is deep within 4 KiB is read: %s", async (_name, value) => {
    const { server, undisturbed } = await startWatched();
    const viewer = await openSubscriber(server);
    viewer.socket.send(`{"type":"subscribe","jobId":"job","after":${value}}`);
    expect(await viewer.expect("snapshot")).toMatchObject({ resumed: false });
    viewer.socket.send(`{"type":${value}}`); // unknown, so ignored
    await handled(viewer);
    viewer.socket.send(value);
    if (value.startsWith("[")) expect((await viewer.closed).code).toBe(4400);
    else await handled(viewer);
    await undisturbed();
  });

  test("that subscribes may come in fragments, and byte by byte", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, "/ws");
    const snapshots = () => viewer.text().split('"type":"snapshot"').length - 1;
    const text = JSON.stringify(subscribe(JOB));
    const [first = "", ...rest] = text;
    viewer.socket.write(clientFrame(Opcode.text, first, false));
    for (const [at, part] of rest.entries()) {
      viewer.socket.write(clientFrame(Opcode.continuation, part, at === rest.length - 1));
    }
    await until("the fragments are answered", () => snapshots() === 1);
    for (const byte of frame(subscribe(JOB))) {
      viewer.socket.write(Buffer.from([byte]));
      await turns(1);
    }
    await until("the bytes are answered", () => snapshots() === 2);
    await undisturbed();
  });

  test("in ten thousand fragments is closed or read, not kept", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, "/ws");
    const many = range(1, 10_000).map(() => clientFrame(Opcode.continuation, " ", false));
    viewer.socket.write(Buffer.concat([clientFrame(Opcode.text, "{", false), ...many]));
    await until("it is closed", () => viewer.ended());
    await undisturbed();
  });

  test("of invalid UTF-8 in its second fragment closes with 1007", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, "/ws");
    viewer.socket.write(clientFrame(Opcode.text, '{"type":"', false));
    viewer.socket.write(clientFrame(Opcode.continuation, Buffer.from([0xc3, 0x28])));
    await until("it is closed", () => viewer.ended());
    expect(viewer.received().includes(Buffer.from([0x88, 2, 1007 >> 8, 1007 & 255]))).toBe(true);
    await undisturbed();
  });
});

describe("ten thousand messages at once", () => {
  const flood = (message: (n: number) => object) =>
    Buffer.concat(range(1, 10_000).map((n) => frame(message(n))));

  test.each([
    ["of one job", () => subscribe(JOB)],
    ["of as many unknown ones", (n: number) => subscribe(`unknown ${n}`)],
  ])("that subscribe are answered, or the connection is closed: %s", async (_name, message) => {
    const { server, undisturbed } = await startWatched();
    const queued = mostQueued(server);
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    const viewer = await rawUpgrade(server.port, "/ws");
    viewer.socket.write(flood(message));
    const answers = () => viewer.text().split(/"type":"(?:snapshot|error)"/).length - 1;
    let most = 0;
    await until("it is answered", () => {
      most = Math.max(most, queued());
      return viewer.ended() || answers() === 10_000;
    });
    if (!viewer.ended()) {
      expect(viewer.text().split('"code":"too_many_subscriptions"').length - 1).toBeGreaterThan(
        9_800,
      );
    }
    expect(most).toBeLessThan(4 * 1_024 * 1_024);
    expect(server.monitor.stats().rooms).toBe(1);
    await undisturbed();
    viewer.socket.destroy();
    await until("it has left", () => server.monitor.stats().viewers.ws === 1);
  });

  test("that unsubscribe are ignored, or the connection is closed", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    await until("it is served", () => viewer.text().includes('"type":"snapshot"'));
    viewer.socket.write(
      Buffer.concat([flood((n) => unsubscribe(`unknown ${n}`)), frame({ type: "ping" })]),
    );
    await until("it is answered", () => viewer.ended() || viewer.text().includes("heartbeat"));
    await undisturbed();
  });

  test("behind one that waits for authorize are not kept: 4429", async () => {
    let asked = 0;
    const { server, undisturbed } = await startWatched({
      authorize: ({ jobId }) => jobId === JOB || new Promise<boolean>(() => (asked += 1)),
    });
    const viewer = await openSubscriber(server);
    send(viewer, subscribe("slow"));
    await until("authorize is asked", () => asked === 1);
    for (const n of range(1, 10_000)) send(viewer, unsubscribe(`unknown ${n}`));
    expect(await viewer.expect("error")).toMatchObject({ code: "too_many_subscriptions" });
    expect((await viewer.closed).code).toBe(4429);
    await undisturbed();
  });

  test("of a viewer that does not read are not answered in memory", async () => {
    const { server, undisturbed } = await startWatched();
    const stages = range(1, 500).map((n) => ({ stage: `stage ${n}`, name: "n".repeat(200) }));
    await server.monitor.publish({ type: "plan", jobId: "big", stages });
    const queued = mostQueued(server);
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    const viewer = await rawUpgrade(server.port, "/ws");
    viewer.socket.pause();
    let most = 0;
    const flood = Buffer.concat(range(1, 200).map(() => frame(subscribe("big"))));
    for (const _ of range(1, 50)) {
      viewer.socket.write(flood);
      await server.poll("unknown"); // a round trip
      most = Math.max(most, queued());
    }
    await until("it is sent away", () => server.monitor.stats().viewers.ws === 1);
    expect(most).toBeLessThan(2 * 1_024 * 1_024);
    expect(left.at(-1)).toMatchObject({ jobId: "big", code: 4429 });
    await undisturbed();
  });

  test("of a viewer that watches nothing, and does not read, neither", async () => {
    const { server, undisturbed } = await startWatched();
    const queued = mostQueued(server);
    const viewer = await rawUpgrade(server.port, "/ws");
    viewer.socket.pause();
    let most = 0;
    let gone = false;
    viewer.socket.on("close", () => {
      gone = true;
    });
    const flood = Buffer.concat(range(1, 2_000).map((n) => frame(subscribe(`unknown ${n}`))));
    for (const _ of range(1, 50)) {
      if (gone) break;
      viewer.socket.write(flood);
      await server.poll("unknown");
      most = Math.max(most, queued());
    }
    expect(most).toBeLessThan(2 * 1_024 * 1_024);
    expect(server.monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 1 } });
    await undisturbed();
  }, 20_000);
});
