import { availableParallelism } from "node:os";
import { table } from "../report/markdown.js";
import type { Amounts, Measured } from "./cases.js";
import { type Compared, compare } from "./compare.js";
import type { UnitCosts } from "./model.js";
import { BUSY, type Crowd, project, VIEWERS_OF_NODE } from "./projection.js";

export interface ScalingResults {
  amounts: Amounts;
  unit: UnitCosts;
  /** The same where everything has more to do, for the projection. */
  busy: UnitCosts;
  busyRate: number;
  /** The one node that the constants are of. */
  one: Measured;
  checked: Record<string, Measured>;
}

const µs = (seconds: number): string => (seconds * 1e6).toFixed(1);
const whole = (value: number): string => Math.round(value).toLocaleString("en");
const figure = (value: number): string =>
  value >= 100 ? whole(value) : value.toFixed(value >= 10 ? 1 : 2);

/** What `--write` puts into docs/scaling.md. */
export function scalingSection({
  amounts,
  unit,
  busy,
  busyRate,
  one,
  checked,
}: ScalingResults): string {
  const { jobs, viewersOfJob, rate, seconds, rounds } = amounts;
  return [
    `Measured on ${availableParallelism()} cores with Node ${process.versions.node}, all processes on them, over loopback: Redis, the nodes, a publisher and a process with all viewers. ${jobs} jobs of ten stages, ${rate} updates a second each, ${viewersOfJob} viewers a job (${whole(jobs * viewersOfJob)} in all), mode full; ${rounds} rounds of ${seconds} s. Every viewer got every update once (asserted).`,
    "### The constants: no node, and one",
    constants(unit, busy, one),
    `CPU is at ${whole(jobs * rate)} updates a second; _busy_ is at ${whole(jobs * busyRate)}. What comes together costs less each.`,
    "### Model and measurement",
    ...Object.entries(checked).flatMap(([name, measured]) => [
      `**${name[0]?.toUpperCase()}${name.slice(1)}** (${opening(measured)})`,
      comparison(compare(measured, unit)),
    ]),
    "### Projected: 10 million viewers",
    projections(busy),
  ].join("\n\n");
}

function constants(unit: UnitCosts, busy: UnitCosts, { idle }: Measured): string {
  const { append, message, delivery, viewer, stored } = unit;
  const cpu = (name: "append" | "message" | "heard" | "delivery") => [
    µs(unit[name].cpu),
    µs(busy[name].cpu),
  ];
  const bytes = (what: string) => ["", "", what];
  const percent = (cores: number) => (cores * 100).toFixed(2);
  return table(
    ["", "CPU, µs", "busy, µs", "bytes"],
    [
      [
        "A: Redis, an append",
        ...cpu("append"),
        `${whole(append.bytesIn)} in, ${whole(append.bytesOut)} out`,
      ],
      ["M: Redis, an announcement to a node", ...cpu("message"), `${whole(message.bytesOut)} out`],
      ["H: a node, an announcement heard", ...cpu("heard"), `${whole(message.bytesOut)} in`],
      ["D: a node, an update to a viewer", ...cpu("delivery"), `${whole(delivery.bytes)} out`],
      ["a node, a viewer", ...bytes(`${whole(viewer.memory)} of heap and buffers`)],
      ["Redis, a job", ...bytes(`${whole(stored.job)} of memory`)],
      ["Redis, an update in its history", ...bytes(`${whole(stored.update)} of memory`)],
      [
        "idle, % of a core: taken off",
        ...bytes(`Redis ${percent(idle.redis)}, a node ${percent(idle.nodes)}`),
      ],
    ],
  );
}

const opening = ({ opening: { rooms, scripts, subscribed } }: Measured): string =>
  `${rooms} rooms were opened with ${scripts} reads and ${subscribed} subscriptions`;

function comparison(rows: readonly Compared[]): string {
  return table(
    ["", "model", "measured", "min–max", "deviation"],
    rows.map(({ what, unit, model, measured: { median, min, max } }) => {
      const deviation = Math.round((median / model - 1) * 100);
      const range = min === max ? "" : `${figure(min)}–${figure(max)}`;
      const sign = deviation > 0 ? "+" : "";
      return [
        `${what}${unit && `, ${unit}`}`,
        figure(model),
        figure(median),
        range,
        `${sign}${deviation} %`,
      ];
    }),
  );
}

const CROWDS: Record<string, Crowd> = {
  "10 million jobs, each with one viewer, an update in 10 s": {
    jobs: 1e7,
    viewersOfJob: 1,
    rate: 0.1,
  },
  "100,000 jobs, 100 viewers each, an update a second": { jobs: 1e5, viewersOfJob: 100, rate: 1 },
  "1,000 jobs, 10,000 viewers each, an update a second": { jobs: 1e3, viewersOfJob: 1e4, rate: 1 },
  "one job with all of them, five updates a second": { jobs: 1, viewersOfJob: 1e7, rate: 5 },
};

function projections(unit: UnitCosts): string {
  const rows = Object.entries(CROWDS).flatMap(([name, crowd]) =>
    [false, true].flatMap((routed) => {
      if (routed && crowd.viewersOfJob > VIEWERS_OF_NODE) return []; // no node holds them
      const { nodes, costs, redis, gigabits } = project(crowd, unit, routed);
      return [
        [
          routed ? "… routed by job" : name,
          whole(costs.appends),
          whole(costs.messages),
          whole(costs.deliveries),
          whole(nodes),
          whole(redis),
          gigabits.redis.toFixed(gigabits.redis < 1 ? 2 : 0),
          whole(gigabits.nodes),
        ],
      ];
    }),
  );
  return [
    table(
      [
        "",
        "appends/s",
        "messages/s",
        "deliveries/s",
        "nodes",
        "Redis processes",
        "Redis out, Gbit/s",
        "nodes out, Gbit/s",
      ],
      rows,
    ),
    `A node is a process that has at most ${whole(VIEWERS_OF_NODE)} viewers and is ${BUSY * 100} % busy; a Redis process is ${BUSY * 100} % busy, too.`,
  ].join("\n\n");
}
