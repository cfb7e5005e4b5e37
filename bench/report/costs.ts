import { AT_ONCE, type CatchUpResults } from "../catch-up.js";
import type { PollKind, PollResults } from "../polls.js";
import { IN_FLIGHT, type PublishCosts } from "../publish.js";
import { type Series, spread } from "../stats.js";
import { MISSED } from "../subjects/catch-up.js";
import { compared, type Section, table } from "./markdown.js";

export function pollSection({ ours, bare }: PollResults): Section {
  const costs = (what: string, kind: PollKind, of: "cpu" | "rate", digits: number) => [
    what,
    ...[ours, bare].map((one) => spread(one[kind][of]).median.toFixed(digits)),
  ];
  return {
    table: table(
      ["`GET /jobs/:id`, keep-alive", "ours", "bare Fastify route"],
      [
        costs("200: requests/s", "ok", "rate", 0),
        costs("200: CPU µs per request", "ok", "cpu", 1),
        costs("304: requests/s", "unchanged", "rate", 0),
        costs("304: CPU µs per request", "unchanged", "cpu", 1),
      ],
    ),
    comparisons: [
      compared("200: requests/s, ours ÷ bare", ours.ok.rate, bare.ok.rate, { least: 0.9 }),
      compared("… CPU, bare ÷ ours", bare.ok.cpu, ours.ok.cpu),
      compared("304: requests/s, ours ÷ bare", ours.unchanged.rate, bare.unchanged.rate, {
        least: 0.8,
      }),
      compared("… CPU, bare ÷ ours", bare.unchanged.cpu, ours.unchanged.cpu),
    ],
  };
}

export function publishSection({ message, progress, stringify, bytes }: PublishCosts): Section {
  const cost = (series: Series) => spread(series).median.toFixed(1);
  return {
    table: table(
      ["publish, nobody watches: CPU µs per event", `${IN_FLIGHT} in flight`, "one by one"],
      [
        ["a message of a stage", cost(message.together), cost(message.alone)],
        ["progress of a stage", cost(progress.together), cost(progress.alone)],
        [`\`JSON.stringify\` of the job, ${bytes} bytes`, cost(stringify), cost(stringify)],
      ],
    ),
    comparisons: [
      compared(
        `publish, ${IN_FLIGHT} in flight: CPU, message ÷ stringify`,
        message.together,
        stringify,
        { most: 1.5 },
      ),
      compared("… progress ÷ stringify", progress.together, stringify, { most: 1.5 }),
      compared("publish one by one: CPU, message ÷ stringify", message.alone, stringify, {
        most: 1.5,
      }),
      compared("… progress ÷ stringify", progress.alone, stringify, { most: 1.5 }),
    ],
  };
}

export function catchUpSection({ ours, updates, events }: CatchUpResults): Section {
  const median = (series: Series, digits: number) => spread(series).median.toFixed(digits);
  const all = [ours, updates, events];
  return {
    table: table(
      [
        `after ${MISSED.toLocaleString("en")} missed updates`,
        "ours: one snapshot",
        "ws: each update again",
        "ws: each event again",
      ],
      [
        ["CPU µs per viewer", ...all.map(({ cpu }) => median(cpu, 0))],
        [
          `ms per viewer until all is there, ${AT_ONCE} viewers at a time`,
          ...all.map(({ ms }) => median(ms, 2)),
        ],
      ],
    ),
    comparisons: [
      compared("catch-up: time, each update again ÷ ours", updates.ms, ours.ms, { least: 8 }),
      compared("… CPU, each update again ÷ ours", updates.cpu, ours.cpu, { least: 8 }),
      compared("… CPU, each event again ÷ ours", events.cpu, ours.cpu),
    ],
  };
}
