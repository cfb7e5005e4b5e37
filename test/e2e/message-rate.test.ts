import { describe, expect, test, vi } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode, rawUpgrade } from "../support/raw.js";
import { startServer } from "../support/server.js";
import { openSubscriber, send, watching } from "../support/subscriber.js";
import { until } from "../support/wait.js";

const AT_ONCE = 256;
const MOST_MORE = 512;
const PING = { type: "ping" };

async function start() {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: 600_000, drainMs: 0 });
  for (const jobId of ["a", "b"]) await server.monitor.publish({ type: "job", jobId });
  return { clock, server };
}

const beats = ({ frames }: { frames: readonly { type: string }[] }) =>
  frames.filter(({ type }) => type === "heartbeat").length;

describe("[S2] [D16] a connection that sends more than its rate", () => {
  test("may send 256 messages at once", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a"); // one message
    send(viewer, ...range(2, AT_ONCE).map(() => PING));
    await until("all pings are answered", () => beats(viewer) === AT_ONCE - 1);
    await server.monitor.publish({ type: "job", jobId: "a", message: "on" });
    await viewer.expect("update");
  });

  test("is not read until its messages are within the rate again", async () => {
    const { clock, server } = await start();
    const viewer = await watching(server, "a");
    send(viewer, ...range(1, AT_ONCE).map(() => PING));
    await until("the pings are answered", () => beats(viewer) === AT_ONCE);
    send(viewer, PING); // two over it: 50 a second are 20 ms each
    await server.get("/jobs");
    expect(beats(viewer)).toBe(AT_ONCE);
    clock.advance(19);
    await server.get("/jobs");
    expect(beats(viewer)).toBe(AT_ONCE);
    clock.advance(1);
    await until("it is read again", () => beats(viewer) === AT_ONCE + 1);
  });

  test("gets its updates while it is not read", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a");
    send(viewer, ...range(1, AT_ONCE + 10).map(() => PING));
    await until("it is not read", () => beats(viewer) >= AT_ONCE);
    await server.monitor.publish({ type: "job", jobId: "a", message: "on" });
    expect(await viewer.expect("update")).toMatchObject({ job: { message: "on" } });
  });

  test.each([
    ["messages", Opcode.text, JSON.stringify(PING)],
    ["messages of an unknown type", Opcode.text, JSON.stringify({ type: "x" })],
    ["pings", Opcode.ping, ""],
    ["pongs", Opcode.pong, ""],
  ])(
    "is ended with a sentence when it goes on with %s, and nobody else is",
    async (_, opcode, text) => {
      const { server } = await start();
      const other = await server.watch("b");
      await other.expect("snapshot");
      const left: number[] = [];
      server.monitor.on("leave", ({ code }) => left.push(code));
      const client = await rawUpgrade(server.port, "/ws?jobId=a");
      await until("it is served", () => client.text().includes('"type":"snapshot"'));
      const all = range(0, AT_ONCE + MOST_MORE + 1);
      client.socket.write(Buffer.concat(all.map(() => clientFrame(opcode, text))));
      await until("it is ended", () => left.length > 0);
      expect(left).toEqual([4429]);
      const sentence = '"message":"A connection may send 50 messages a second: slow down."';
      await until("it is told", () => client.text().includes(sentence));
      await server.monitor.publish({ type: "job", jobId: "b", message: "on" });
      await other.expect("update");
    },
  );

  test("leaves no timer behind when it goes while it is not read", async () => {
    const { clock, server } = await start();
    const viewer = await openSubscriber(server);
    await server.get("/jobs");
    const before = clock.timers;
    send(viewer, ...range(1, AT_ONCE + 50).map(() => PING));
    await until("it is not read", () => clock.timers === before + 1);
    await server.adapter.close();
    expect(clock.timers).toBeLessThanOrEqual(before);
  });
});

test("[S2] [D16] a connection that is not read is not taken for silent", async () => {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: 1_000, drainMs: 0 });
  await server.monitor.publish({ type: "job", jobId: "a" });
  const viewer = await watching(server, "a");
  send(viewer, ...range(1, 650).map(() => PING));
  await until("it is not read", () => beats(viewer) >= AT_ONCE);
  await turns(50);
  for (const _ of range(1, 20)) {
    clock.advance(1_000);
    await server.get("/jobs"); // a round trip: what it says has come
  }
  expect(viewer.socket.readyState).toBe(viewer.socket.OPEN);
});

test("[S2] [D16] a connection that is not read is closed as quickly as any", async () => {
  const { server } = await start();
  const viewer = await watching(server, "a");
  const left = new Promise((resolve) => server.monitor.on("leave", resolve));
  send(viewer, ...range(1, AT_ONCE + 50).map(() => PING));
  await until("it is not read", () => beats(viewer) >= AT_ONCE);
  await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
  await left;
  const terminate = vi.fn();
  const timer = setTimeout(terminate, 1_500); // `ws` would wait 2 s for an answer to the close frame
  expect((await viewer.closed).code).toBe(1000);
  clearTimeout(timer);
  expect(terminate).not.toHaveBeenCalled();
});

test("[S2] [D16] one connection has one message a turn of the event loop", async () => {
  const { server } = await start();
  const client = await rawUpgrade(server.port, "/ws?jobId=a");
  await until("it is served", () => client.text().includes('"type":"snapshot"'));
  let most = 0;
  let inTurn = 0;
  server.monitor.egress.heartbeat = ((heartbeat) => (codec) => {
    inTurn += 1;
    most = Math.max(most, inTurn);
    setImmediate(() => {
      inTurn = 0;
    });
    return heartbeat(codec);
  })(server.monitor.egress.heartbeat);
  client.socket.write(
    Buffer.concat(range(1, 100).map(() => clientFrame(Opcode.text, JSON.stringify(PING)))),
  );
  await until("all are answered", () => client.text().split('"heartbeat"').length - 1 === 100);
  expect(most).toBeLessThanOrEqual(2); // an immediate of this test may come after the next one
});

test("[S2] [D16] a message of more than 64 fragments closes with 1008", async () => {
  const { server } = await start();
  const viewer = await server.watch("a");
  await viewer.expect("snapshot");
  const client = await rawUpgrade(server.port, "/ws?jobId=a");
  const fragments = [
    clientFrame(Opcode.text, "", false),
    ...range(1, 10_000).map(() => clientFrame(Opcode.continuation, "", false)),
  ];
  const left: number[] = [];
  server.monitor.on("leave", ({ code }) => left.push(code));
  client.socket.write(Buffer.concat(fragments));
  await until("it is ended", () => left.length > 0);
  expect(left).toEqual([1008]);
  await server.monitor.publish({ type: "job", jobId: "a", message: "on" });
  await viewer.expect("update");
});

describe("[S2] [D16] over a long time", () => {
  test("any number of messages within the rate is fine", async () => {
    const { clock, server } = await start();
    const viewer = await watching(server, "a");
    for (const second of range(1, 20)) {
      send(viewer, ...range(1, 50).map(() => PING));
      await until("the pings are answered", () => beats(viewer) === 50 * second);
      clock.advance(1_000);
    }
    expect(viewer.socket.readyState).toBe(viewer.socket.OPEN);
  });

  test("a connection that is above its rate for a minute is ended", async () => {
    const { clock, server } = await start();
    const viewer = await watching(server, "a");
    const left: number[] = [];
    server.monitor.on("leave", ({ code }) => left.push(code));
    for (let second = 0; second < 300 && left.length === 0; second++) {
      send(viewer, ...range(1, 80).map(() => PING));
      await server.get("/jobs"); // a round trip: they are there
      await turns(100);
      clock.advance(1_000);
    }
    expect(left).toEqual([4429]);
  });
});
