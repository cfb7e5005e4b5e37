import type { AcrossResults } from "../across.js";
import { BURST } from "../fan-out.js";
import { NODE_SUBJECTS, type NodesResults } from "../nodes.js";
import type { RecoveryResults } from "../recovery.js";
import { spread } from "../stats.js";
import type { ThroughputResults } from "../throughput.js";
import { compared, measured, type Section, table } from "./markdown.js";

const median = (series: number[], digits: number) => spread(series).median.toFixed(digits);

export function nodesSection({ cpu, user, burst, idle }: NodesResults): Section {
  const row = (what: string, series: Record<string, number[]>, digits: number) => [
    what,
    ...NODE_SUBJECTS.map((subject) => median(series[subject] ?? [], digits)),
  ];
  return {
    table: table(
      ["two nodes on one Redis", "ours", "Socket.IO, Redis Streams"],
      [
        row("one update a tick: CPU µs of both per delivery", cpu, 2),
        row("… of that the user part", user, 2),
        row(`${BURST} updates in one tick: CPU µs of both per delivered update`, burst, 2),
        row("bytes from Redis to a node without viewers, per update", idle, 0),
      ],
    ),
    comparisons: [
      compared("two nodes, CPU: ours ÷ Socket.IO", cpu.ours, cpu["socket.io"], { most: 0.75 }),
      compared("… user part alone", user.ours, user["socket.io"]),
      compared(`… bursts of ${BURST}`, burst.ours, burst["socket.io"]),
      measured("… to a node without viewers", idle.ours, " bytes", { most: 0 }),
    ],
  };
}

export function acrossSection({ same, other, later, bare }: AcrossResults): Section {
  return {
    table: table(
      ["ms, through Redis", "median"],
      [
        ["`publish` → viewer of the same node", median(same, 2)],
        ["`publish` → viewer of another node", median(other, 2)],
        ["… that much later than the same node's", median(later, 2)],
        ["bare PUBLISH → message, ioredis", median(bare, 2)],
      ],
    ),
    comparisons: [
      compared("to another node: later ÷ bare PUBLISH", later, bare, { most: 2 }),
      compared("… `publish` → viewer there ÷ bare PUBLISH", other, bare),
    ],
  };
}

export function throughputSection({ one, many }: ThroughputResults): Section {
  const row = (what: string, { publish, xadd }: ThroughputResults["one"]) => [
    what,
    median(publish, 0),
    median(xadd, 0),
  ];
  return {
    table: table(
      ["events/s from one process to Redis", "ours: `publish`", "bare XADD in a pipeline"],
      [row("one job", one), row("500 jobs by turns", many)],
    ),
    comparisons: [
      compared("publish, one job: events/s ÷ XADD", one.publish, one.xadd, { least: 0.3 }),
      compared("… many jobs", many.publish, many.xadd, { least: 0.2 }),
    ],
  };
}

export function recoverySection({ half, p99, missed }: RecoveryResults): Section {
  return {
    table: table(
      ["all clients of a node that is killed", "median", "p99"],
      [["live again on the other, ms beyond their own wait", median(half, 0), median(p99, 0)]],
    ),
    comparisons: [
      measured("a node is killed: recovery, p99", p99, " ms", { most: 100 }),
      measured("… revisions missed or told twice", [missed], "", { most: 0 }),
    ],
  };
}
