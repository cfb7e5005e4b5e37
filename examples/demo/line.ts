import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** What lies between viewers and servers: a TCP proxy that can be cut. */
export interface Line {
  /** Where viewers connect to. */
  readonly port: number;
  readonly isUp: boolean;
  /** Ends every connection, and takes no new ones until it is up again. */
  set(isUp: boolean): void;
  close(): Promise<void>;
}

interface Address {
  host: string;
  port: number;
}

/**
 * A line to one server, or in turn to several: who is next but does not answer is passed over. It
 * listens on a free port of this machine, unless `at` says otherwise.
 */
export async function startLine(
  servers: readonly Address[],
  at: Address = { host: "127.0.0.1", port: 0 },
): Promise<Line> {
  const sockets = new Set<Socket>();
  let isUp = true;
  let turn = 0;

  function keep(socket: Socket): Socket {
    sockets.add(socket);
    socket.on("error", () => {}); // `close` follows
    return socket.on("close", () => sockets.delete(socket));
  }

  function lead(viewer: Socket, tries: number): void {
    const server = servers[turn % servers.length] as Address;
    turn += 1;
    const target = keep(connect({ ...server, noDelay: true }));
    const giveUp = () => target.destroy();
    viewer.on("close", giveUp);
    let answered = false;
    target.on("connect", () => {
      answered = true;
      viewer.pipe(target).pipe(viewer);
    });
    target.on("close", () => {
      viewer.off("close", giveUp);
      if (answered || tries === 1 || viewer.destroyed) viewer.destroy();
      else lead(viewer, tries - 1);
    });
  }

  const proxy = createServer({ noDelay: true }, (viewer) => {
    if (isUp) lead(keep(viewer), servers.length);
    else viewer.resetAndDestroy();
  });
  await new Promise<void>((resolve, reject) => {
    proxy.once("error", reject);
    proxy.listen(at.port, at.host, resolve);
  });

  function cut(): void {
    for (const socket of sockets) socket.destroy();
  }

  return {
    port: (proxy.address() as AddressInfo).port,
    get isUp() {
      return isUp;
    },
    set(up) {
      isUp = up;
      if (!isUp) cut();
    },
    async close() {
      cut();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
