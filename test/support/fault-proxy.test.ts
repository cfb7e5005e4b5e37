import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { ManualClock } from "./clock.js";
import { type FaultProxy, startFaultProxy } from "./fault-proxy.js";
import { type RawClient, rawConnect } from "./raw.js";
import { inTime, until } from "./wait.js";

const MIB = 1024 * 1024;

interface Peer {
  socket: Socket;
  received(): Buffer;
  ended(): boolean;
  error(): string | undefined;
}

interface Through {
  client: Peer;
  server: Peer;
}

function peerOf(socket: Socket): Peer {
  const chunks: Buffer[] = [];
  let ended = false;
  let error: string | undefined;
  socket.on("data", (chunk) => chunks.push(chunk));
  socket.on("end", () => {
    ended = true;
  });
  socket.on("error", ({ code }: NodeJS.ErrnoException) => {
    error = code;
  });
  return {
    socket,
    received: () => Buffer.concat(chunks),
    ended: () => ended,
    error: () => error,
  };
}

/** A proxy in front of a server that does nothing by itself, and connections through it. */
async function setUp({ clock }: { clock?: ManualClock } = {}) {
  const peers: Peer[] = [];
  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
    peers.push(peerOf(socket)),
  );
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const { socket } of peers) socket.destroy();
    listener.close();
  });
  const { port } = listener.address() as AddressInfo;
  const proxy = await startFaultProxy(port, { ...(clock && { clock }) });
  async function open(): Promise<Through> {
    const known = peers.length;
    const { socket }: RawClient = await rawConnect(proxy.port);
    await until("the server has it", () => peers.length > known);
    return { client: peerOf(socket), server: peers[known]! };
  }
  return { proxy, listener, open, first: await open() };
}

const text = (peer: Peer) => peer.received().toString();
const has = (peer: Peer, what: string) => until(`it has ${what}`, () => text(peer) === what);
const isClosed = (proxy: FaultProxy) => until("it is closed", () => proxy.connections.length === 0);

/** A connection that is reset, before or after it is known to be there. */
async function isReset(port: number): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1" });
  const [error] = (await inTime("the reset", once(socket, "error"))) as [NodeJS.ErrnoException];
  expect(error.code).toBe("ECONNRESET");
}

test("without a fault bytes and goodbyes pass, each direction for itself", async () => {
  const { proxy, first } = await setUp();
  const { client, server } = first;
  const [connection] = proxy.connections;
  client.socket.write("hello");
  await has(server, "hello");
  client.socket.end(" and bye");
  await until("the goodbye is there", server.ended);
  expect(text(server)).toBe("hello and bye");
  server.socket.write("still here");
  await has(client, "still here");
  expect(client.ended()).toBe(false);
  server.socket.end();
  await until("the other goodbye is there", client.ended);
  await isClosed(proxy);
  expect(connection?.passed).toEqual({ toServer: 13, toClient: 10 });
  expect([client.error(), server.error()]).toEqual([undefined, undefined]);
});

test("a side that breaks breaks the other", async () => {
  const { proxy, open, first } = await setUp();
  first.client.socket.resetAndDestroy();
  await until("the server hears of it", () => first.server.error() === "ECONNRESET");
  const { client, server } = await open();
  server.socket.resetAndDestroy();
  await until("the client hears of it", () => client.error() === "ECONNRESET");
  await isClosed(proxy);
});

test("a server that is not there resets the client", async () => {
  const { proxy, listener, first } = await setUp();
  listener.close();
  proxy.cut();
  first.client.socket.end();
  await isReset(proxy.port);
  await until("only the first is left", () => proxy.connections.length <= 1);
});

test("latency: everything arrives in order, not before its time", async () => {
  const clock = new ManualClock();
  const { proxy, first } = await setUp({ clock });
  proxy.latency(50, "toClient");
  first.server.socket.write("one ");
  await until("it is held", () => clock.timers === 1);
  first.client.socket.write("the other way");
  await has(first.server, "the other way");
  clock.advance(49);
  first.server.socket.write("two");
  first.client.socket.write(" at once");
  await has(first.server, "the other way at once");
  expect(proxy.connections[0]?.passed.toClient).toBe(0);
  clock.advance(1);
  expect(proxy.connections[0]?.passed.toClient).toBe(4);
  await has(first.client, "one ");
  await until("the second is held", () => clock.timers === 1);
  clock.advance(50);
  await has(first.client, "one two");
});

test("slice: the same bytes, in pieces of one", async () => {
  const { proxy, first } = await setUp();
  const sizes: number[] = [];
  first.client.socket.on("data", ({ length }) => sizes.push(length));
  const bytes = randomBytes(3_000);
  proxy.slice();
  first.server.socket.write(bytes);
  await until("all is there", () => first.client.received().length === bytes.length);
  expect(first.client.received().equals(bytes)).toBe(true);
  expect(sizes.length).toBeGreaterThan(bytes.length / 4); // the kernel may join some
  expect(first.server.socket.writableLength).toBe(0);
});

test("trickle: no more than so many bytes a second, and idle time is not saved up", async () => {
  const clock = new ManualClock();
  const { proxy, first } = await setUp({ clock });
  proxy.trickle(1_000, "toClient");
  const passed = () => proxy.connections[0]?.passed.toClient;
  clock.advance(60_000);
  first.server.socket.write(Buffer.alloc(5_000));
  await until("it is held", () => clock.timers === 1);
  expect(passed()).toBe(0);
  clock.advance(100);
  expect(passed()).toBe(100);
  clock.advance(1_900);
  expect(passed()).toBe(2_000);
  await until("as many are there", () => first.client.received().length === 2_000);
  proxy.restore();
  clock.advance(20);
  await until("the rest is there", () => first.client.received().length === 5_000);
});

test("a black hole swallows everything, goodbyes too, and closes nothing", async () => {
  const { proxy, open, first } = await setUp();
  const healthy = await open();
  const [lost] = proxy.connections;
  lost?.blackHole();
  for (const { client, server } of [first, healthy]) {
    client.socket.write("up");
    server.socket.write("down");
    server.socket.end();
  }
  await until("the healthy one has all", healthy.client.ended);
  await has(healthy.server, "up");
  expect([text(first.client), text(first.server), first.client.ended()]).toEqual(["", "", false]);
  expect(lost?.passed).toEqual({ toServer: 0, toClient: 0 });
  expect(proxy.connections).toContain(lost);

  proxy.blackHole("toServer");
  const late = await open();
  late.server.socket.write("down");
  late.client.socket.write("up");
  await has(late.client, "down");
  expect(text(late.server)).toBe("");
});

test("stopReading: beyond what the kernel takes, bytes stay with the server", async () => {
  const { proxy, open, first } = await setUp();
  const healthy = await open();
  proxy.connections[0]?.stopReading();
  const bytes = randomBytes(16 * MIB);
  for (const { server } of [first, healthy]) server.socket.write(bytes);
  // The healthy one is the clock: it had all, and the other had as long.
  await until("the healthy one has all", () => healthy.client.received().length === bytes.length);
  expect(healthy.server.socket.writableLength).toBe(0);
  expect(first.client.received().length).toBe(0);
  expect(first.server.socket.writableLength).toBeGreaterThan(0);
  expect(first.server.socket.writableNeedDrain).toBe(true);

  const drained = new Promise((resolve) => first.server.socket.once("drain", resolve));
  proxy.restore();
  await inTime("the drain", drained);
  await until("all is there", () => first.client.received().length === bytes.length);
  expect(first.client.received().equals(bytes)).toBe(true);
});

test("a client that does not read is felt by the server: the proxy holds little", async () => {
  const { proxy, open, first } = await setUp();
  const healthy = await open();
  first.client.socket.pause();
  const bytes = Buffer.alloc(16 * MIB);
  for (const { server } of [first, healthy]) server.socket.write(bytes);
  await until("the healthy one has all", () => healthy.client.received().length === bytes.length);
  expect(first.server.socket.writableLength).toBeGreaterThan(0);
  expect(proxy.connections[0]?.passed.toClient).toBeLessThan(bytes.length);
});

test("cut: both sides get a FIN, and what was under way is lost", async () => {
  const clock = new ManualClock();
  const { proxy, first } = await setUp({ clock });
  proxy.latency(1_000);
  first.server.socket.write("under way");
  await until("it is held", () => clock.timers === 1);
  proxy.cut();
  await until("both hear of it", () => first.client.ended() && first.server.ended());
  first.client.socket.end();
  first.server.socket.end();
  await isClosed(proxy);
  clock.advance(1_000);
  expect(text(first.client)).toBe("");
  expect([first.client.error(), first.server.error()]).toEqual([undefined, undefined]);
});

test("reset: both sides get a RST", async () => {
  const { proxy, open, first } = await setUp();
  const other = await open();
  proxy.connections[0]?.reset();
  await until("the client hears of it", () => first.client.error() === "ECONNRESET");
  await until("the server hears of it", () => first.server.error() === "ECONNRESET");
  other.client.socket.write("not me");
  await has(other.server, "not me");
  expect(proxy.connections).toHaveLength(1);
});

test("refuse: new connections are reset, those there are stay", async () => {
  const { proxy, open, first } = await setUp();
  proxy.refuse();
  await isReset(proxy.port);
  first.client.socket.write("still here");
  await has(first.server, "still here");
  expect([proxy.accepted, proxy.refused, proxy.connections.length]).toEqual([2, 1, 1]);
  proxy.restore();
  await open();
  expect([proxy.accepted, proxy.refused, proxy.connections.length]).toEqual([3, 1, 2]);
});
