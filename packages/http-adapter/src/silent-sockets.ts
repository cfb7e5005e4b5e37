import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";

/**
 * Browsers connect in advance. On Node 20 `server.close()` waits for connections that have not sent a
 * whole request, until their headers time out after a minute: they are ended here. Upgraded sockets
 * have not sent a request either, but are somebody's: they have lost their HTTP parser.
 */
export function endSilentSockets(app: FastifyInstance): void {
  const silent = new Set<Socket & { parser?: unknown }>();
  app.server.on("connection", (socket: Socket) => {
    silent.add(socket);
    socket.once("close", () => silent.delete(socket));
  });
  app.server.on("request", ({ socket }: { socket: Socket }) => silent.delete(socket));
  app.addHook("preClose", async () => {
    for (const socket of silent) if (socket.bytesRead === 0 || socket.parser) socket.destroy();
  });
}
