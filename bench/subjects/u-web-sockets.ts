import { advance, JOB_ID, type UpdateFrame } from "../payload.js";
import type { Subject } from "./subject.js";

/** The little of µWebSockets.js that is used here, so that the type check does not need it installed. */
interface MicroWebSockets {
  DISABLED: number;
  App(): App;
  us_socket_local_port(socket: object): number;
}
interface App {
  ws(pattern: string, behaviour: object): App;
  listen(host: string, port: number, listening: (socket: object | false) => void): App;
  publish(topic: string, message: string): boolean;
}
interface UserSocket {
  subscribe(topic: string): boolean;
}
const name: string = "uwebsockets";
/** The default is 64 KiB, above which messages are dropped: less than a burst. */
const MAX_BACKPRESSURE = 16 * 1024 * 1024;

/** µWebSockets.js: a server in C++, with its own sockets and its own publish and subscribe. */
export async function microWebSockets(frame: UpdateFrame): Promise<Subject> {
  const { default: uws } = (await import(name)) as { default: MicroWebSockets };
  const app = uws.App().ws("/*", {
    compression: uws.DISABLED,
    maxBackpressure: MAX_BACKPRESSURE,
    open: (socket: UserSocket) => socket.subscribe(JOB_ID),
  });
  return {
    listen: () =>
      new Promise((resolve, reject) => {
        app.listen("127.0.0.1", 0, (socket) => {
          if (!socket) return reject(new Error("µWebSockets.js cannot listen."));
          const port = uws.us_socket_local_port(socket);
          resolve({ to: { host: "127.0.0.1", port }, path: "/", dialect: "bare" });
        });
      }),
    update(n) {
      app.publish(JOB_ID, JSON.stringify(advance(frame, n)));
    },
  };
}
