import { availableParallelism } from "node:os";
import { BURST, type FanOutCosts, type FanOutResults } from "./fan-out.js";
import type { FanOutSubject } from "./messages.js";
import type { PollKind, PollResults } from "./polls.js";
import type { Settings } from "./settings.js";
import { ratio, type Series, spread } from "./stats.js";

export interface Results {
  settings: Settings;
  fanOut: FanOutResults;
  polls: PollResults;
}

/** The two tables: what the subjects cost, and how ours compares with its peers. */
export function table({ fanOut, polls }: Results): string {
  return [
    "Medians; CPU is the server's, user + system:",
    "",
    "| | ours, full | ours, delta | ws | Socket.IO | floor |",
    "| --- | --- | --- | --- | --- | --- |",
    costs("size of an update, bytes", fanOut, ({ bytes }) => String(bytes)),
    costs("one update a tick: CPU µs per delivery", fanOut, ({ tick }) => cpu(tick)),
    costs(`${BURST} updates in one tick: CPU µs per delivered update`, fanOut, ({ burst }) =>
      cpu(burst),
    ),
    costs("an idle viewer: heap and buffers, KiB", fanOut, ({ heap }) =>
      (spread(heap).median / 1024).toFixed(1),
    ),
    "",
    "| `GET /jobs/:id`, keep-alive | ours | bare Fastify route |",
    "| --- | --- | --- |",
    pollCosts("200: requests/s", polls, "ok", "rate", 0),
    pollCosts("200: CPU µs per request", polls, "ok", "cpu", 1),
    pollCosts("304: requests/s", polls, "unchanged", "rate", 0),
    pollCosts("304: CPU µs per request", polls, "unchanged", "cpu", 1),
    "",
    "Ours against each peer, median of the rounds' ratios:",
    "",
    "| | ratio | min–max | target | |",
    "| --- | --- | --- | --- | --- |",
    ...fanOutRatios(fanOut),
    ...pollRatios(polls),
  ].join("\n");
}

const ORDER: readonly FanOutSubject[] = ["ours", "ours-delta", "ws", "socket.io", "floor"];

const costs = (
  what: string,
  results: FanOutResults,
  show: (costs: FanOutCosts) => string,
): string => row([what, ...ORDER.map((subject) => show(results[subject]))]);

function cpu({ all, user, system }: FanOutCosts["tick"]): string {
  const [sum, ofUser, ofSystem] = [all, user, system].map((series) =>
    spread(series).median.toFixed(2),
  );
  return `${sum} (${ofUser} + ${ofSystem})`;
}

function pollCosts(
  what: string,
  { ours, bare }: PollResults,
  kind: PollKind,
  of: "cpu" | "rate",
  digits: number,
): string {
  const shown = [ours, bare].map((one) => spread(one[kind][of]).median.toFixed(digits));
  return row([what, ...shown]);
}

function fanOutRatios({ ours, "ours-delta": delta, ws, "socket.io": io, floor }: FanOutResults) {
  return [
    compared("one update a tick: CPU, full ÷ ws", ours.tick.all, ws.tick.all, { most: 1 }),
    compared("… full ÷ Socket.IO", ours.tick.all, io.tick.all, { most: 0.8 }),
    compared("… delta ÷ ws", delta.tick.all, ws.tick.all, { most: 1 }),
    compared("… delta ÷ Socket.IO", delta.tick.all, io.tick.all, { most: 0.8 }),
    compared("… full ÷ floor", ours.tick.all, floor.tick.all),
    compared("burst: CPU, full ÷ ws", ours.burst.all, ws.burst.all, { most: 0.15 }),
    compared("… full ÷ Socket.IO", ours.burst.all, io.burst.all, { most: 0.15 }),
    compared("… delta ÷ ws", delta.burst.all, ws.burst.all, { most: 0.15 }),
    compared("… delta ÷ Socket.IO", delta.burst.all, io.burst.all, { most: 0.15 }),
    compared("idle viewer: memory, ours ÷ ws", ours.heap, ws.heap, { most: 1.3 }),
    compared("… ours ÷ Socket.IO", ours.heap, io.heap),
  ];
}

function pollRatios({ ours, bare }: PollResults): string[] {
  return [
    compared("200: requests/s, ours ÷ bare", ours.ok.rate, bare.ok.rate, { least: 0.8 }),
    compared("… CPU, bare ÷ ours", bare.ok.cpu, ours.ok.cpu, { least: 0.8 }),
    compared("304: requests/s, ours ÷ bare", ours.unchanged.rate, bare.unchanged.rate),
    compared("… CPU, bare ÷ ours", bare.unchanged.cpu, ours.unchanged.cpu),
  ];
}

type Target = { most: number } | { least: number };

function compared(what: string, one: Series, other: Series, target?: Target): string {
  const { median, min, max } = ratio(one, other);
  const cells = [what, median.toFixed(2), `${min.toFixed(2)}–${max.toFixed(2)}`];
  if (!target) return row([...cells, "", ""]);
  const met = "most" in target ? median <= target.most : median >= target.least;
  const wanted = "most" in target ? `≤ ${target.most}` : `≥ ${target.least}`;
  return row([...cells, wanted, met ? "met" : "**missed**"]);
}

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

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

It opens ${(viewers * ORDER.length).toLocaleString("en")} connections from one process: \`ulimit -n\` (hard) must be above that.

## Results

${table(results)}

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
