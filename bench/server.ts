import { answer } from "./child.js";
import { now } from "./clock.js";
import type { ServerCalls, SubjectName } from "./messages.js";
import { profile } from "./profiler.js";
import { betterSse } from "./subjects/better-sse.js";
import * as catchUp from "./subjects/catch-up.js";
import { floor } from "./subjects/floor.js";
import * as nodes from "./subjects/nodes.js";
import { ours, oursDelta, oursSse } from "./subjects/ours.js";
import { plainWs } from "./subjects/plain-ws.js";
import * as polls from "./subjects/polls.js";
import { socketIo } from "./subjects/socket-io.js";
import { large, largeAndPatient, patient } from "./subjects/stalled.js";
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
  "catch-up ours": catchUp.ours,
  "catch-up updates": catchUp.resentUpdates,
  "catch-up events": catchUp.resentEvents,
  "node ours": nodes.ours,
  "node socket.io": nodes.socketIo,
  "worker ours": nodes.oursWorker,
  "worker socket.io": nodes.socketIo,
  patient,
  large,
  "large and patient": largeAndPatient,
};

let subject: Subject | undefined;

answer<ServerCalls>({
  async listen({ subject: name, frame, redis }) {
    subject = await subjects[name](frame, redis);
    return subject.listen();
  },
  async update(from, count) {
    const sent: unknown[] = [];
    for (let n = from; n < from + count; n++) sent.push(subject?.update(n));
    await Promise.all(sent);
  },
  async pace(from, count, everyMs, afterMs) {
    const begun = now();
    const sent: number[] = [];
    while (sent.length < count) {
      const wait = begun + afterMs + sent.length * everyMs - now();
      await new Promise((resolve) => setTimeout(resolve, wait));
      sent.push(now());
      subject?.update(from + sent.length - 1);
    }
    return sent;
  },
  async cpu() {
    return process.cpuUsage();
  },
  async memory() {
    for (let round = 0; round < 4; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage();
    return { live: heapUsed + external, buffers: arrayBuffers, rss }; // `external` has the array buffers
  },
  async stats() {
    if (!subject?.stats) throw new Error("This subject counts nothing.");
    return subject.stats();
  },
  profile,
});
