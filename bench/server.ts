import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { answer } from "./child.js";
import type { ServerCalls, SubjectName } from "./messages.js";
import { betterSse } from "./subjects/better-sse.js";
import { floor } from "./subjects/floor.js";
import { ours, oursDelta, oursSse } from "./subjects/ours.js";
import { plainWs } from "./subjects/plain-ws.js";
import * as polls from "./subjects/polls.js";
import { socketIo } from "./subjects/socket-io.js";
import type { CreateSubject, Subject } from "./subjects/subject.js";
import { microWebSockets } from "./subjects/u-web-sockets.js";

/** A process with one subject in it: its CPU time is the subject's alone. */

const subjects: Record<SubjectName, CreateSubject> = {
  "fan-out ours": ours,
  "fan-out ours-delta": oursDelta,
  "fan-out ours-sse": oursSse,
  "fan-out ws": plainWs,
  "fan-out socket.io": socketIo,
  "fan-out uws": microWebSockets,
  "fan-out better-sse": betterSse,
  "fan-out floor": floor,
  "poll ours": polls.ours,
  "poll bare": polls.bare,
};

let subject: Subject | undefined;
let session: Session | undefined;

answer<ServerCalls>({
  async listen({ subject: name, frame }) {
    subject = await subjects[name](frame);
    return subject.listen();
  },
  async update(from, count) {
    for (let n = from; n < from + count; n++) subject?.update(n);
  },
  async cpu() {
    return process.cpuUsage();
  },
  async memory() {
    for (let round = 0; round < 4; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { heapUsed, external } = process.memoryUsage(); // `external` has the array buffers
    return heapUsed + external;
  },
  async profile(file) {
    if (!session) {
      session = new Session();
      session.connect();
      await session.post("Profiler.enable");
      await session.post("Profiler.setSamplingInterval", { interval: 200 });
    }
    if (file === null) await session.post("Profiler.start");
    else {
      const { profile } = await session.post("Profiler.stop");
      writeFileSync(file, JSON.stringify(profile));
    }
  },
});
