import { createServer, type Server as HttpServer } from "node:http";
import { advance, JOB_ID, type UpdateFrame } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** The little of Socket.IO that is used here, so that the type check does not need it installed. */
export interface SocketIo {
  Server: new (
    server: HttpServer,
    options: object,
  ) => {
    on(name: "connection", listener: (socket: { join(room: string): void }) => void): void;
    to(room: string): { emit(name: string, value: unknown): void };
  };
}
const name: string = "socket.io";

/** One room, one `emit` an update; WebSocket only, nothing compressed. */
export async function socketIo(frame: UpdateFrame): Promise<Subject> {
  const { Server } = (await import(name)) as SocketIo;
  const server = createServer();
  const io = new Server(server, {
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
  });
  io.on("connection", (socket) => socket.join(JOB_ID));
  return {
    listen: () => listen(server, "/socket.io/?EIO=4&transport=websocket", "socket.io"),
    update(n) {
      io.to(JOB_ID).emit("update", advance(frame, n));
    },
  };
}
