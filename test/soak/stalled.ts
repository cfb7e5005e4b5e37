import { connect } from "node:net";
import { onTestFinished } from "vitest";
import { clientFrame, Opcode } from "../support/raw.js";

/**
 * A WebSocket viewer that asks again and again, and never reads: what it gets fills the kernel's
 * buffers first. It stays until the server ends it.
 */
export function startStalledViewer(port: number, jobId: string): void {
  const socket = connect({ host: "127.0.0.1", port });
  socket.pause();
  socket.on("error", () => {});
  socket.write(
    [
      "GET /ws HTTP/1.1",
      "Host: localhost",
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${Buffer.alloc(16).toString("base64")}`,
      "\r\n",
    ].join("\r\n"),
  );
  const subscribe = JSON.stringify({ type: "subscribe", jobId });
  for (let n = 0; n < 60; n++) socket.write(clientFrame(Opcode.text, subscribe));
  onTestFinished(() => {
    socket.destroy();
  });
}
