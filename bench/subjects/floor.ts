import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { Duplex } from "node:stream";
import type { UpdateFrame } from "../payload.js";
import { listen, type Subject } from "./subject.js";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** The least that Node can do: one buffer, made beforehand, written to each socket. Nobody reads them. */
export function floor(frame: UpdateFrame): Subject {
  const text = Buffer.from(JSON.stringify(frame));
  const head = Buffer.from([0x81, 126, text.length >> 8, text.length & 255]);
  const bytes = Buffer.concat([head, text]);
  const sockets: Duplex[] = [];
  const server = createServer();
  server.on("upgrade", ({ headers }, socket) => {
    const accept = createHash("sha1")
      .update(`${headers["sec-websocket-key"]}${GUID}`)
      .digest("base64");
    socket.on("error", () => {});
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    sockets.push(socket);
  });
  return {
    listen: () => listen(server, "/", "bare"),
    update() {
      for (const socket of sockets) socket.write(bytes);
    },
  };
}
