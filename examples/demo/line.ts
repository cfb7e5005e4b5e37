import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** What lies between a viewer and the server: a TCP proxy that can be cut. */
export interface Line {
  /** Where viewers connect to. */
  readonly port: number;
  readonly isUp: boolean;
  /** Ends every connection, and takes no new ones until it is up again. */
  set(isUp: boolean): void;
  close(): Promise<void>;
}

/** A line to a port of this machine. */
export async function startLine(to: number): Promise<Line> {
  const sockets = new Set<Socket>();
  let isUp = true;

  function keep(socket: Socket): Socket {
    sockets.add(socket);
    socket.on("error", () => {}); // `close` follows
    return socket.on("close", () => sockets.delete(socket));
  }

  const server = createServer({ noDelay: true }, (viewer) => {
    if (!isUp) return viewer.resetAndDestroy();
    const target = connect({ port: to, host: "127.0.0.1", noDelay: true });
    keep(viewer).on("close", () => target.destroy());
    keep(target).on("close", () => viewer.destroy());
    viewer.pipe(target).pipe(viewer);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  function cut(): void {
    for (const socket of sockets) socket.destroy();
  }

  return {
    port: (server.address() as AddressInfo).port,
    get isUp() {
      return isUp;
    },
    set(up) {
      isUp = up;
      if (!isUp) cut();
    },
    async close() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
