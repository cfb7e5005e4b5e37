import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";

export interface Stranger {
  readonly port: number;
  /** Of every request, those for a WebSocket too. */
  readonly asked: { path: string; headers: IncomingHttpHeaders }[];
}

/** A server that is no monitor. Without `socket` it takes a request for a WebSocket like any other. */
export async function startStranger(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  socket?: (socket: WebSocket) => void,
): Promise<Stranger> {
  const asked: Stranger["asked"] = [];
  const note = ({ url = "", headers }: IncomingMessage) => void asked.push({ path: url, headers });
  const server = createServer((request, response) => {
    note(request);
    answer(request, response);
  });
  if (socket) {
    const sockets = new WebSocketServer({ server });
    sockets.on("connection", (each, request) => {
      note(request);
      socket(each);
    });
    onTestFinished(() => {
      for (const each of sockets.clients) each.terminate();
    });
  }
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return { port: (server.address() as AddressInfo).port, asked };
}
