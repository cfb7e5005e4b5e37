import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** One address for servers that come and go. */
export interface Switch {
  readonly port: number;
  /** Connections that came while it led nowhere. */
  readonly refused: number;
  /** Where new connections go; null: nowhere. */
  lead(port: number | null): void;
  /** Breaks those that are open. */
  cut(): void;
}

/** Begins with `port` of 127.0.0.1; closed at the end of the test. */
export async function startSwitch(port: number): Promise<Switch> {
  const open = new Set<Socket>();
  let target: number | null = port;
  let refused = 0;
  const listener = createServer((client) => {
    if (target === null) {
      refused += 1;
      client.resetAndDestroy();
      return;
    }
    const server = connect(target, "127.0.0.1");
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  const cut = () => {
    for (const socket of open) socket.destroy();
  };
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    cut();
    listener.close();
  });
  return {
    port: (listener.address() as AddressInfo).port,
    get refused() {
      return refused;
    },
    lead(to) {
      target = to;
    },
    cut,
  };
}
