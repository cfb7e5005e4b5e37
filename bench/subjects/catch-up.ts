import { createServer } from "node:http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { WebSocketServer } from "ws";
import { advance, JOB_ID, monitorWithJob, type UpdateFrame, updateEvent } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** Servers to which viewers come back that missed a thousand updates. */

export const MISSED = 1_000;

/** A cursor of that long ago: one snapshot frame with all events since. */
export async function ours(): Promise<Subject> {
  const monitor = await monitorWithJob();
  const before = await monitor.get(JOB_ID);
  if (!before) throw new Error("There is no job.");
  for (let n = 1; n <= MISSED; n++) await monitor.publish(updateEvent(n));
  const server = createServer();
  attachWebSocket(server, { monitor });
  const after = `${before.epoch}.${before.revision}`;
  return {
    listen: () => listen(server, `/ws?jobId=${JOB_ID}&after=${after}`, "frames"),
    update() {},
  };
}

/** A loop over `ws` that sends the updates again, as they were. */
export function resentUpdates(frame: UpdateFrame): Subject {
  return resend(frame, (update) => update);
}

/** The same without the job: the least that tells what was missed. */
export function resentEvents(frame: UpdateFrame): Subject {
  return resend(frame, ({ type, jobId, cursor, event }) => ({ type, jobId, cursor, event }));
}

function resend(frame: UpdateFrame, kept: (update: UpdateFrame) => object): Subject {
  // Encoded when they were sent first.
  const history = Array.from({ length: MISSED }, (_, at) =>
    Buffer.from(JSON.stringify(kept(advance(frame, at + 1)))),
  );
  const server = createServer();
  const wss = new WebSocketServer({ server, perMessageDeflate: false });
  wss.on("connection", (socket) => {
    socket.on("error", () => {});
    for (const text of history) socket.send(text, { binary: false });
  });
  return { listen: () => listen(server, "/", "bare"), update() {} };
}
