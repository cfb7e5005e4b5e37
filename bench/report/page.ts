import { availableParallelism } from "node:os";
import type { CatchUpResults } from "../catch-up.js";
import { BURST, type FanOutResults, type SSE, WEB_SOCKETS } from "../fan-out.js";
import type { PollResults } from "../polls.js";
import type { PublishCosts } from "../publish.js";
import type { Settings } from "../settings.js";
import type { LatencyResults } from "../stalled-latency.js";
import type { MemoryResults } from "../stalled-memory.js";
import { catchUpSection, pollSection, publishSection } from "./costs.js";
import { fanOutSection, sseSection } from "./fan-out.js";
import { type Section, table } from "./markdown.js";
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
}

/** What the subjects cost, and how ours compares with its peers. */
export function tables({ fanOut, sse, polls, publish, catchUp, latency, memory }: Results): string {
  const sections: Section[] = [];
  if (fanOut) sections.push(fanOutSection(fanOut));
  if (sse) sections.push(sseSection(sse));
  if (polls) sections.push(pollSection(polls));
  if (publish) sections.push(publishSection(publish));
  if (catchUp) sections.push(catchUpSection(catchUp));
  if (latency) sections.push(latencySection(latency));
  if (memory) sections.push(memorySection(memory));
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
  const { viewers, lives, rounds, updates, bursts, requests } = results.settings;
  return `# Benchmarks

What a delivered update, an idle viewer and a poll cost, beside what others cost in the same run on the same machine.
Absolute numbers are this machine's (${availableParallelism()} cores, Node ${process.versions.node}, ${process.platform} ${process.arch}, loopback); only the ratios travel.

\`\`\`sh
npm run bench                 # about three minutes; a table on stdout
npm run bench -- --quick      # a few seconds: does it work?
npm run bench -- --write      # writes this page
npm run bench -- --profile    # CPU profiles of each phase in bench/results/tmp
\`\`\`

It opens ${(viewers * WEB_SOCKETS.length).toLocaleString("en")} connections from one process: \`ulimit -n\` (hard) must be above that.

## Results

${tables(results)}

## How it is measured

- **Subjects.** _Ours_: a monitor with its embedded store, \`attachWebSocket\`, all defaults; in mode full each update
  carries the whole job, in mode delta the changed stage. _ws_: \`ws\` 8.23.0, one \`JSON.stringify\` an update, \`send\` to each
  client in a loop. _Socket.IO_: 4.8.4, one \`emit\` to a room, WebSocket only. _Floor_: one buffer made beforehand,
  \`socket.write\` to each socket, nothing encoded. No compression anywhere. Only ours stores the update, keeps history
  for those who reconnect, and looks at backpressure.
- **Payload.** The peers send the update frame that our viewers get in mode full: a job of ten stages.
- **CPU** is \`process.cpuUsage()\` of a process that has nothing but the subject in it, from before the first update
  until every viewer had the last one. All ${viewers.toLocaleString("en")} viewers are counted; one that misses an update, or gets one too many, fails
  the run. They live in another process and read frames with as little work as possible.
- **One update a tick**: the next is published when everybody has the last: ${updates} updates a round. **Burst**: ${BURST} updates in one turn
  of the event loop, ${bursts} times a round. Ours sends a burst as one frame (the job, and the events that led to it); a peer sends ${BURST}.
  Its cost is divided by ${BURST} in both cases.
- **Memory**: \`heapUsed + external\` after a collection, before and after ${viewers - 100} more viewers connect, divided by their number.
- **Polls**: 16 connections, one request at a time on each, ${requests.toLocaleString("en")} requests a round. The bare route sends a constant buffer
  of the same size, or an empty 304. Cost ratios are peer ÷ ours here, so that more is better in all four rows.
- **Noise.** Subjects run side by side: each round has all of them once, in alternating order; a ratio is taken within a
  round, and the median of ${lives * rounds} rounds is shown (${lives} times new processes, ${rounds} rounds each; memory: ${lives}).
- Measured is the source as the packages' build compiles it.
`;
}
