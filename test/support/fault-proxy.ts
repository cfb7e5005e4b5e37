import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Clock } from "@org/workflow-monitor";
import { onTestFinished } from "vitest";
import { systemClock } from "../../packages/core/src/host.js";
import { FAIR, Pipe, type Shape } from "./fault-pipe.js";

/** Which bytes a fault is for; without one, those of both directions. */
type Direction = "toServer" | "toClient";

/** Faults of one connection, or of all connections, those to come too. They stay until `restore`. */
interface Faults {
  /** Everything arrives this much later, in order. */
  latency(ms: number, direction?: Direction): void;
  /** Passes on pieces of at most `bytes` (default 1), one a turn of the event loop. */
  slice(bytes?: number, direction?: Direction): void;
  /** Passes on no more than this; time that nothing was sent in is not saved up. */
  trickle(bytesPerSecond: number, direction?: Direction): void;
  /** Swallows everything, goodbyes too. What was swallowed does not come back: only `cut` or `reset` are of use then. */
  blackHole(direction?: Direction): void;
  /**
   * Leaves what comes unread (default: what the server sends), until that side's own buffers are
   * full. The kernel's take megabytes first.
   */
  stopReading(direction?: Direction): void;
  /** FIN to both sides; what is under way is lost. */
  cut(): void;
  /** RST to both sides. */
  reset(): void;
  /** Ends the faults that last; new connections are taken again. */
  restore(): void;
}

interface ProxiedConnection extends Faults {
  /** Bytes that were passed on. */
  readonly passed: Readonly<Record<Direction, number>>;
}

export interface FaultProxy extends Faults {
  readonly port: number;
  /** Those that are open, oldest first. */
  readonly connections: readonly ProxiedConnection[];
  /** Connections so far, with those that were refused. */
  readonly accepted: number;
  readonly refused: number;
  /** Resets each new connection at once. */
  refuse(): void;
}

/** Changes how the bytes of a direction pass. */
type Reshape = (direction: Direction, shape: Partial<Shape>) => void;

/** The faults that only do that. */
function shaping(reshape: Reshape): Omit<Faults, "cut" | "reset"> {
  const each = (shape: Partial<Shape>, direction?: Direction) => {
    if (direction !== "toClient") reshape("toServer", shape);
    if (direction !== "toServer") reshape("toClient", shape);
  };
  return {
    latency: (latencyMs, direction) => each({ latencyMs }, direction),
    slice: (sliceBytes = 1, direction) => each({ sliceBytes }, direction),
    trickle: (bytesPerSecond, direction) => each({ bytesPerSecond }, direction),
    blackHole: (direction) => each({ blackHole: true }, direction),
    stopReading: (direction = "toClient") => each({ stopped: true }, direction),
    restore: () => each(FAIR),
  };
}

/** Joins two sockets. */
function join(client: Socket, server: Socket, shapes: Record<Direction, Shape>, clock: Clock) {
  const pipes = {
    toServer: new Pipe(client, server, shapes.toServer, clock),
    toClient: new Pipe(server, client, shapes.toClient, clock),
  };
  const reshape: Reshape = (direction, shape) => pipes[direction].change(shape);
  // A side that breaks breaks the other, unless nothing gets through.
  client.on("error", () => pipes.toServer.shape.blackHole || server.resetAndDestroy());
  server.on("error", () => pipes.toClient.shape.blackHole || client.resetAndDestroy());
  const loseAll = () => {
    pipes.toServer.close();
    pipes.toClient.close();
  };
  const connection: ProxiedConnection = {
    ...shaping(reshape),
    get passed() {
      return { toServer: pipes.toServer.passed, toClient: pipes.toClient.passed };
    },
    cut() {
      loseAll();
      client.end();
      server.end();
    },
    reset() {
      loseAll();
      client.resetAndDestroy();
      server.resetAndDestroy();
    },
  };
  return { connection, reshape, sockets: [client, server] };
}

/**
 * A proxy in front of a port of 127.0.0.1 that does to connections what networks do. It does nothing
 * by itself and nothing at random; time passes only where the fault is time, on the given clock. A
 * function tells where each new connection goes. Closed at the end of the test.
 */
export async function startFaultProxy(
  target: number | (() => number),
  { clock = systemClock }: { clock?: Clock } = {},
): Promise<FaultProxy> {
  const open = new Set<ReturnType<typeof join>>();
  const shapes: Record<Direction, Shape> = { toServer: FAIR, toClient: FAIR };
  const state = { accepted: 0, refused: 0, refusing: false };

  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    state.accepted += 1;
    if (state.refusing) {
      state.refused += 1;
      client.resetAndDestroy();
      return;
    }
    const port = typeof target === "number" ? target : target();
    const server = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    const joined = join(client, server, shapes, clock);
    open.add(joined);
    const closed = () => client.closed && server.closed && open.delete(joined);
    client.on("close", closed);
    server.on("close", closed);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const { sockets } of open) for (const socket of sockets) socket.destroy();
    listener.close();
  });

  const all = shaping((direction, shape) => {
    shapes[direction] = { ...shapes[direction], ...shape };
    for (const { reshape } of open) reshape(direction, shape);
  });
  const connections = () => [...open].map(({ connection }) => connection);
  return {
    ...all,
    port: (listener.address() as AddressInfo).port,
    get connections() {
      return connections();
    },
    get accepted() {
      return state.accepted;
    },
    get refused() {
      return state.refused;
    },
    refuse() {
      state.refusing = true;
    },
    cut() {
      for (const connection of connections()) connection.cut();
    },
    reset() {
      for (const connection of connections()) connection.reset();
    },
    restore() {
      state.refusing = false;
      all.restore();
    },
  };
}
