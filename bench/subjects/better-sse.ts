import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { advance, type UpdateFrame } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** The little of better-sse that is used here, so that the type check does not need it installed. */
interface BetterSse {
  createSession(
    request: IncomingMessage,
    response: ServerResponse,
    options: { keepAlive: number },
  ): Promise<Session>;
  createChannel(): {
    register(session: Session): void;
    broadcast(data: unknown, event: string, options: { eventId: string }): void;
  };
}
interface Session {
  push(data: unknown, event: string): void;
}
const name: string = "better-sse";
/** As often as ours. */
const HEARTBEAT_MS = 25_000;

/** One channel, one `broadcast` an update. A newcomer is told the state, as ours are. */
export async function betterSse(frame: UpdateFrame): Promise<Subject> {
  const { createChannel, createSession } = (await import(name)) as BetterSse;
  const channel = createChannel();
  const server = createServer((request, response) => {
    void createSession(request, response, { keepAlive: HEARTBEAT_MS }).then((session) => {
      session.push({ resumed: false, events: [], job: frame.job }, "snapshot");
      channel.register(session);
    });
  });
  return {
    listen: () => listen(server, "/events", "sse"),
    update(n) {
      const update = advance(frame, n);
      channel.broadcast(update, "update", { eventId: update.cursor });
    },
  };
}
