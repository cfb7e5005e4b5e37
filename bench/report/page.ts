import { availableParallelism } from "node:os";
import type { AcrossResults } from "../across.js";
import { AT_ONCE, type CatchUpResults } from "../catch-up.js";
import { BURST, type FanOutResults, FIRST_VIEWERS, type SSE, WEB_SOCKETS } from "../fan-out.js";
import type { NodesResults } from "../nodes.js";
import { type PageResults, PER_SECOND } from "../pages.js";
import type { PollResults } from "../polls.js";
import { IN_FLIGHT, type PublishCosts } from "../publish.js";
import type { RecoveryResults } from "../recovery.js";
import { MEASUREMENTS, type Settings } from "../settings.js";
import type { LatencyResults } from "../stalled-latency.js";
import type { MemoryResults } from "../stalled-memory.js";
import { MISSED } from "../subjects/catch-up.js";
import type { ThroughputResults } from "../throughput.js";
import { catchUpSection, pollSection, publishSection } from "./costs.js";
import { fanOutSection, sseSection } from "./fan-out.js";
import { type Section, table } from "./markdown.js";
import { pageSection } from "./pages.js";
import { acrossSection, nodesSection, recoverySection, throughputSection } from "./redis.js";
import { latencySection, memorySection } from "./stalled.js";

/** What was measured: not everything, with `--only`. */
export interface Results {
  settings: Settings;
  fanOut?: FanOutResults<(typeof WEB_SOCKETS)[number]>;
  sse?: FanOutResults<(typeof SSE)[number]>;
  polls?: PollResults;
  publish?: PublishCosts;
  catchUp?: CatchUpResults;
  latency?: LatencyResults;
  memory?: MemoryResults;
  pages?: PageResults;
  nodes?: NodesResults;
  across?: AcrossResults;
  throughput?: ThroughputResults;
  recovery?: RecoveryResults;
}

/** What the subjects cost, and how ours compares with its peers. */
export function tables(results: Results): string {
  const { fanOut, sse, polls, publish, catchUp, latency, memory, pages } = results;
  const { nodes, across, throughput, recovery } = results;
  const sections: Section[] = [];
  if (fanOut) sections.push(fanOutSection(fanOut));
  if (sse) sections.push(sseSection(sse));
  if (polls) sections.push(pollSection(polls));
  if (publish) sections.push(publishSection(publish));
  if (catchUp) sections.push(catchUpSection(catchUp));
  if (latency) sections.push(latencySection(latency));
  if (memory) sections.push(memorySection(memory));
  if (pages) sections.push(pageSection(pages));
  if (nodes) sections.push(nodesSection(nodes));
  if (across) sections.push(acrossSection(across));
  if (throughput) sections.push(throughputSection(throughput));
  if (recovery) sections.push(recoverySection(recovery));
  return [
    "Medians; CPU is the server's, user + system:",
    ...sections.map(({ table }) => table),
    "Ours against each peer, median of the rounds' ratios:",
    table(
      ["", "ratio", "min–max", "target", ""],
      sections.flatMap(({ comparisons }) => comparisons),
    ),
  ].join("\n\n");
}
/** docs/benchmarks.md. */
export function page(results: Results): string {
  const { viewers } = results.settings;
  return `# Benchmarks

What a delivered update, an idle viewer, a poll and an event cost, beside what others cost in the same run on the same
machine; and what watching costs a page. Absolute numbers are this machine's (${availableParallelism()} cores, Node ${process.versions.node}, ${process.platform} ${process.arch}, loopback); only the ratios travel.

\`\`\`sh
npm run bench                   # about a quarter of an hour; tables on stdout
npm run bench -- --quick        # a minute: does it work? The figures mean nothing
npm run bench -- --only sse     # one of: ${MEASUREMENTS.join(", ")}
npm run bench -- --write        # writes this page
npm run bench -- --profile      # CPU profiles of each phase in bench/results/tmp
\`\`\`

It opens ${(viewers * WEB_SOCKETS.length).toLocaleString("en")} connections from one process: \`ulimit -n\` (hard) must be above that. It needs
Chromium, at \`/usr/bin/chromium\` or where \`CHROMIUM\` says, and \`redis-server\`.

## Results

${tables(results)}

## How it is measured

${howFanOut(results.settings)}
${howOthers(results.settings)}
${howRedis(results.settings)}
`;
}

const howFanOut = ({ viewers, lives, rounds, updates, turns, bursts }: Settings): string => `\
- **Subjects.** _Ours_: a monitor with its embedded store, \`attachWebSocket\`, all defaults; in mode full each update
  carries the whole job, in mode delta the changed stage. _ws_: \`ws\` 8.23.0, one \`JSON.stringify\` an update, \`send\` to each
  client in a loop. _Socket.IO_: 4.8.4, one \`emit\` to a room, WebSocket only. _µWebSockets_: µWebSockets.js as \`uwebsockets\`
  3.0.6, one \`publish\` to a topic; a server in C++. _Floor_: one buffer made beforehand, \`socket.write\` to each socket,
  nothing encoded. No compression anywhere. Only ours stores the update and keeps history for those who reconnect; only
  ours and µWebSockets look at backpressure.
- **SSE.** _Ours_: the HTTP adapter's stream, in Fastify. _better-sse_: 0.16.1, one \`broadcast\` to a channel, on \`node:http\`.
- **Payload.** The peers send the update frame that our viewers get in mode full: a job of ten stages.
- **CPU** is \`process.cpuUsage()\` of a process that has nothing but the subject in it, from before the first update until
  every viewer had the last one. All ${viewers.toLocaleString("en")} viewers are counted; one that misses an update, or gets one too many, fails the
  run. They live in another process and read frames with as little work as possible. The _user_ part is what the program does;
  the rest is the kernel's, which is the same for all who write as often. The kernel tells the two apart by samples: a round
  has few of them.
- **One update a tick**: the next is published when everybody has the last: ${updates} updates a round, in ${turns} turns with the other
  subjects. **Burst**: ${BURST} updates in one turn of the event loop, ${bursts === 1 ? "once" : `${bursts} times`} a round. Ours sends a burst as one frame (the job,
  and the events that led to it); a peer sends ${BURST}. Its cost is divided by ${BURST} in both cases.
- **Memory**: \`heapUsed + external\` after a collection, before and after ${viewers - FIRST_VIEWERS} more viewers connect, divided by their
  number. What µWebSockets allocates, Node does not count.
- **Noise.** Subjects run side by side, in alternating order; a ratio is taken within a round, and the median of ${lives * rounds} rounds is
  shown (${lives} times new processes, ${rounds} rounds each; SSE half as many, polls twice; memory: ${lives}).
- Measured is the source as the packages' build compiles it.`;

const howRedis = ({ viewers, updates, across, throughput, recovery }: Settings): string => `\
- **Two nodes on one Redis**: half of the ${viewers.toLocaleString("en")} viewers on each; what they get comes from a third process, which is not counted, and
  a fourth one is a node without viewers, behind a proxy that counts what Redis sends to it. _Socket.IO_: with
  @socket.io/redis-streams-adapter 0.3.1 on ioredis, one room. ${updates} updates a round, each when everybody has the one before. Most of
  it is the kernel's, which is the same for both: the floor above, beside Socket.IO in the same run, is what is left when the program
  does nothing.
- **Across**: one viewer on each of two nodes, one of which publishes, ${across.updates} updates a round, every ${across.everyMs} ms; from \`publish\` until the last
  byte is there. Both come through Redis: there is no short cut to the viewers of the own node, so the other one's are not later.
  Bare: \`PUBLISH\` of 500 bytes until ioredis tells of it on another connection of the same process.
- **Throughput**: ${throughput.events.toLocaleString("en")} events a round from one process, ${throughput.inFlight} in flight, in four portions; each is normalised, folded, compared,
  appended and announced. Bare: as many \`XADD\` of the event's JSON, in four pipelines of ${throughput.inFlight / 4}. With more in flight both are faster,
  ours by less: what waits is garbage that lives longer.
- **Recovery**: ${recovery.viewers} clients of \`@org/workflow-monitor-client\` on one node, through a proxy that goes on to another when that one is
  killed (\`kill -9\`), ${recovery.rounds} times. From when a client's own wait is over until it is live again, while updates go on; every revision is
  there once (asserted as a figure).`;

const howOthers = ({ requests, publish, catchUp, latency, memory, page }: Settings): string => `\
- **Polls**: 16 connections, one request at a time on each, ${requests.toLocaleString("en")} requests a round. The bare route sends a constant buffer
  of the same size, or an empty 304. Cost ratios are peer ÷ ours here, so that more is better in all four rows.
- **Publish**: ${publish.events.toLocaleString("en")} events a round into a monitor without viewers, ${IN_FLIGHT} at a time or each awaited before the next; beside it, as
  many times \`JSON.stringify\` of the same job, in the same process. A message is a revision of its own; of the progress that
  one turn brings only the last is.
- **Catch-up**: viewers come back to a job that went on by ${MISSED.toLocaleString("en")} messages, ${AT_ONCE} at a time, ${catchUp.viewers} a round. Ours sends one snapshot with
  all events; the peer, a loop over \`ws\`, sends what it kept encoded, one message each: the updates, or only their events.
  The cost of connecting is in it on both sides.
- **Stalled viewers and latency**: ${latency.healthy} viewers of one server, and ${latency.healthy} of another that has ${latency.stalled} more, which stopped reading
  after their first snapshot and are parked (asserted). An update every ${latency.everyMs} ms, by turns to one and to the other; from \`publish\`
  until its last byte has reached the viewer's process, on the machine's monotonic clock. ${latency.rounds} rounds of ${latency.updates} updates.
- **Stalled viewers and memory**: ${memory.stalled} viewers of a job of 500 stages (a snapshot of some 200 KB) stall one after another,
  each at a revision of its own; four of five do not even read their first snapshot. Then events are published, ${memory.megabytes} MB in all,
  and one healthy viewer gets every one of them (asserted). RSS after a collection, over that before anybody stalled, in the
  later half of that; without stalled viewers it is the log. RSS also has their sockets and what the allocator keeps, buffers alive
  have not: they are what the viewers pin. On a Unix socket, of which the kernel holds 200 KB, as of a slow
  connection; of a loopback one it holds megabytes.
- **Pages**: Chromium without a GPU, one page at a time, each of its own, 1100 × 1800 pixels, so that all three elements are in
  view. ${PER_SECOND.toLocaleString("en")} updates/s of one job: a message and progress, of its running stages by turns. Busy is \`TaskDuration\` of the main
  thread, as the browser's own protocol tells it, divided by the time: ${page.ms / 1_000} s, after ${page.warmUpMs / 1_000} s of updates, when the graph is laid
  out. It is wall-clock time: whatever else the machine does makes it more. What came is counted, and at the end each page shows
  the last revision that was published (asserted). _By hand_: a WebSocket in mode full, \`JSON.parse\`, and the status and the
  percentage of each stage written into a table at each frame; of a job over 64 KiB the server sends it four frames a second, with
  everything in between. The first state counts from the message that brings it until the beginning of the frame that finds
  it in the DOM: what is drawn in the first is there at the second. Tasks are counted from 50 ms on. ${page.rounds} rounds.`;
