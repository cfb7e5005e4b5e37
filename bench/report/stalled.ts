import type { LatencyResults } from "../stalled-latency.js";
import { type MemoryResults, STALL_CASES, type StalledMemory } from "../stalled-memory.js";
import { type Series, slope, spread } from "../stats.js";
import { compared, measured, type Section, table } from "./markdown.js";

export function latencySection({ alone, "beside stalled": beside }: LatencyResults): Section {
  const ms = (series: Series) => spread(series).median.toFixed(1);
  return {
    table: table(
      ["from `publish` to a healthy viewer, ms", "alone", "beside 10 % that do not read"],
      [
        ["median", ms(alone.half), ms(beside.half)],
        ["99th percentile", ms(alone.p99), ms(beside.p99)],
      ],
    ),
    comparisons: [
      compared("p99 latency, beside stalled viewers ÷ alone", beside.p99, alone.p99, { most: 1.5 }),
    ],
  };
}

const CASES: Record<keyof MemoryResults, string> = {
  nobody: "nobody stalls",
  patient: "nobody is closed for it",
  defaults: "all defaults",
};

export function memorySection(results: MemoryResults): Section {
  const { nobody, patient } = results;
  const { stalled, megabytes } = patient;
  const cases = STALL_CASES.map((one) => results[one]);
  const over = (of: "growth" | "buffers") => {
    const log = spread(later(nobody, of)).median;
    return later(patient, of).map((value) => value - log);
  };
  const perMegabyte = (one: StalledMemory) =>
    slope(laterHalf(one).map(({ appended, growth }) => [appended, growth]));
  const what = `${stalled} stalled viewers, ${megabytes} MB published`;
  return {
    table: table(
      [what, ...STALL_CASES.map((one) => CASES[one])],
      [
        ["growth of RSS, MiB", ...cases.map((one) => median(one, "growth"))],
        ["of buffers alive, MiB", ...cases.map((one) => median(one, "buffers"))],
        [
          "slope of RSS over the later half, MiB per MB",
          ...cases.map((one) => perMegabyte(one).toFixed(3)),
        ],
        ["parked when all was published", ...cases.map(({ parked }) => String(parked))],
        [
          "closed, after how many seconds",
          ...cases.map(({ left, seconds }) => `${left}, ${seconds.toFixed(0)} s`),
        ],
      ],
    ),
    comparisons: [
      measured(`${what}: RSS over that without them`, over("growth"), " MiB", { most: 64 }),
      measured("… buffers alive, likewise", over("buffers"), " MiB", { most: 64 }),
      measured("… slope of RSS over the later half", [perMegabyte(patient)], " MiB per MB", {
        most: 0.05,
      }),
    ],
  };
}

const laterHalf = ({ samples }: StalledMemory) => samples.slice(Math.floor(samples.length / 2));
const later = (one: StalledMemory, of: "growth" | "buffers"): Series =>
  laterHalf(one).map((sample) => sample[of]);
const median = (one: StalledMemory, of: "growth" | "buffers") =>
  spread(later(one, of)).median.toFixed(1);
