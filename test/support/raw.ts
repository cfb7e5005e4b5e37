import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { onTestFinished } from "vitest";
import { until } from "./wait.js";

export { clientFrame, Opcode } from "./client-frame.js";

export interface RawClient {
  readonly socket: Socket;
  /** Everything that came, as bytes. */
  received(): Buffer;
  /** The same as latin1 text: one character a byte. */
  text(): string;
  ended(): boolean;
}

/** A connection that keeps what it gets, and closes only when it is told to; over TLS on request. */
export async function rawConnect(port: number, { tls = false } = {}): Promise<RawClient> {
  const to = { port, host: "127.0.0.1", allowHalfOpen: true };
  const socket = tls ? tlsConnect({ ...to, rejectUnauthorized: false }) : connect(to);
  onTestFinished(() => {
    socket.destroy();
  });
  const chunks: Buffer[] = [];
  let ended = false;
  socket.setNoDelay(true);
  socket.on("data", (chunk) => chunks.push(chunk));
  socket.on("error", () => {});
  socket.on("end", () => {
    ended = true;
  });
  socket.on("close", () => {
    ended = true;
  });
  await new Promise<void>((resolve, reject) => {
    socket.once(tls ? "secureConnect" : "connect", resolve);
    socket.once("error", reject);
  });
  return {
    socket,
    received: () => Buffer.concat(chunks),
    text: () => Buffer.concat(chunks).toString("latin1"),
    ended: () => ended,
  };
}

/** Sends a WebSocket handshake; resolves when the head of the answer is there. */
export async function rawUpgrade(
  port: number,
  path: string,
  headers: Record<string, string> = {},
): Promise<RawClient & { status: number }> {
  const client = await rawConnect(port);
  const all: Record<string, string> = {
    Host: `127.0.0.1:${port}`,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  client.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
  await until("the upgrade is answered", () => client.text().includes("\r\n\r\n"));
  const status = Number(/^HTTP\/1\.1 (\d+)/.exec(client.text())?.[1]);
  return { ...client, status };
}

const PING = String.fromCharCode(0x89);

/** What the WebSocket pings that came so far carry: how many bytes had been written before each. */
export const pings = (client: RawClient): string[] =>
  client
    .text()
    .split(PING)
    .flatMap((frame) => /^.(\d+)/s.exec(frame)?.slice(1) ?? []);
