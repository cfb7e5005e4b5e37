import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** What an HTTP proxy that means well does to what it does not know. */
export interface WebProxy {
  readonly port: number;
  /** What becomes of new WebSockets: `swallow` lets the handshake through, and nothing after it. */
  upgrades: "pass" | "refuse" | "ignore" | "swallow";
  /** What becomes of new event streams: `hold` keeps them back until they end, `hold body` all but the head. */
  streams: "pass" | "hold" | "hold body";
  /** WebSockets and event streams that it stood in the way of, so far. */
  readonly blocked: number;
  /** Open WebSockets and event streams are lost. */
  cut(): void;
}

/** An HTTP proxy in front of a port of 127.0.0.1, closed at the end of the test. */
export async function startWebProxy(port: number): Promise<WebProxy> {
  const sockets = new Set<Socket>();
  let blocked = 0;

  function pass(from: IncomingMessage, to: ServerResponse): void {
    const { method, url, headers } = from;
    const upstream = request({ port, host: "127.0.0.1", method, path: url, headers }, (answer) => {
      const isStream = answer.headers["content-type"]?.startsWith("text/event-stream");
      const head = () => to.writeHead(answer.statusCode ?? 502, answer.headers);
      if (!isStream || proxy.streams === "pass") {
        head();
        to.flushHeaders();
        answer.pipe(to);
        return;
      }
      blocked += 1;
      if (proxy.streams === "hold body") {
        head();
        to.flushHeaders();
      }
      const parts: Buffer[] = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        if (!to.headersSent) head();
        to.end(Buffer.concat(parts));
      });
    });
    upstream.on("error", () => to.destroy());
    to.on("close", () => upstream.destroy());
    upstream.end();
  }

  function upgrade(from: IncomingMessage, client: Socket): void {
    const { upgrades } = proxy;
    client.on("error", () => {});
    if (upgrades !== "pass") blocked += 1;
    if (upgrades === "ignore") return;
    if (upgrades === "refuse") {
      client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    const server = connect(port, "127.0.0.1");
    const lines = Object.entries(from.headers).map(([name, value]) => `${name}: ${value}\r\n`);
    server.write(`GET ${from.url} HTTP/1.1\r\n${lines.join("")}\r\n`);
    server.on("error", () => client.destroy());
    server.on("close", () => client.destroy());
    client.on("close", () => server.destroy());
    if (upgrades === "pass") client.pipe(server).pipe(client);
    else {
      server.once("data", (head) => client.write(head));
      client.resume();
    }
  }

  const listener = createServer(pass).on("upgrade", upgrade);
  listener.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    cut();
    listener.close();
  });
  const proxy: WebProxy = {
    port: (listener.address() as AddressInfo).port,
    upgrades: "pass",
    streams: "pass",
    get blocked() {
      return blocked;
    },
    cut,
  };
  return proxy;
}
