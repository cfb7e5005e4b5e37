import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A TCP proxy that takes the first of its ports that answers, and counts what passes to its clients. */
export async function tcpProxy(ports: readonly number[]) {
  const sockets = new Set<Socket>();
  let passed = 0;
  const join = (client: Socket, [port, ...others]: readonly number[]): void => {
    if (port === undefined) return void client.destroy();
    const server = connect(port, "127.0.0.1");
    sockets.add(server);
    server.once("connect", () => {
      server.setNoDelay();
      client.pipe(server);
      server.on("data", (chunk) => {
        passed += chunk.length;
        client.write(chunk);
      });
      server.on("close", () => client.destroy());
      client.on("close", () => server.destroy());
    });
    server.on("error", () => {
      if (server.bytesRead === 0 && server.bytesWritten === 0) join(client, others);
    });
  };
  const listener = createServer({ noDelay: true }, (client) => {
    sockets.add(client);
    client.on("error", () => {});
    join(client, ports);
  }).listen(0, "127.0.0.1", 4_096);
  await once(listener, "listening");
  return {
    port: (listener.address() as AddressInfo).port,
    toClient: () => passed,
    close() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
