import { createServer } from "node:http";
import { type WebSocket, WebSocketServer } from "ws";
import { advance, type UpdateFrame } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** A loop over `ws`: encoded once an update, sent to each client. Nothing else: no heartbeat, no backpressure. */
export function plainWs(frame: UpdateFrame): Subject {
  const server = createServer();
  const wss = new WebSocketServer({ server, perMessageDeflate: false });
  wss.on("connection", (ws: WebSocket) => ws.on("error", () => {}));
  return {
    listen: () => listen(server, "/", "bare"),
    update(n) {
      const text = JSON.stringify(advance(frame, n));
      for (const client of wss.clients) client.send(text);
    },
  };
}
