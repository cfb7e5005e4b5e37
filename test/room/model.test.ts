import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { ManualClock } from "../support/clock.js";
import { Crowd } from "../support/crowd.js";
import { range } from "../support/frames.js";
import { seededRandom } from "../support/random.js";
import { calm, finish } from "./model/checks.js";
import { lines } from "./model/codecs.js";
import type { ModelCommand } from "./model/command.js";
import { allCommands, crowdedCommands } from "./model/commands.js";
import { type Config, type Coverage, JOB, Model } from "./model/model.js";
import { System } from "./model/system.js";

/** More runs, or others: `FC_RUNS=20000 FC_SEED=7 npx vitest run test/room/model.test.ts`. */
const { FC_RUNS, FC_SEED } = process.env;
const RUNS = { numRuns: Number(FC_RUNS ?? 400), seed: Number(FC_SEED ?? 20_260_401) };
/** A run with a crowd costs as much as several others. */
const CROWDED = { ...RUNS, numRuns: Math.ceil(RUNS.numRuns / 10) };
/** More than a room sends to in one turn. */
const CROWD = 2_050;

/** In one of so many cases another value than the usual one. */
const rarely = <T>(oneIn: number, usual: T, other: T): fc.Arbitrary<T> =>
  fc.constantFrom(...range(2, oneIn).map(() => usual), other);

const config = {
  seed: fc.nat(),
  latency: fc.constantFrom(0, 1, 2, 6),
  historyBytes: fc.constant(2_048),
  inFlightBytes: fc.constantFrom(1, 1_500),
  stallTimeoutMs: fc.constantFrom(0, 4_000),
  keepMs: fc.constantFrom(0, 4_000),
  present: rarely(4, false, true),
  crowd: fc.constant(undefined),
};
const configs: fc.Arbitrary<Config> = fc.record(config);
const crowded: fc.Arbitrary<Config> = fc.record({
  ...config,
  latency: fc.constant(0),
  crowd: fc.constantFrom<Config["crowd"][]>("full", "delta"),
});

/** A test that never gets there proves nothing: each of these has to happen. */
const SITUATIONS = [
  ...["updates: full", "updates: delta", "resumed", "resumed at the head", "joined beyond history"],
  ...["joined without a cursor", "joined with a cursor of another epoch"],
  "joined with a cursor ahead of the head",
  ...["caught up from history", "caught up beyond history", "caught up with another epoch"],
  ...["caught up while big", "caught up, never paused", "caught up with the end"],
  ...["a long-poll waits", "a long-poll was answered later", "the end after a catch-up"],
  ...["ended: 1000", "ended: 1000 (poll)", "ended: 1011", "ended: 1012", "ended: 4404"],
  ...["refused: unknown_job", "refused: unavailable", "refused: draining"],
  ...["stalled", "drained a little", "gone in the middle of a write", "present threw"],
  ...["a room lingered", "a run began while viewers came", "came back to another node"],
  ...["a node with viewers closed", "the store restarted", "the store restarted in silence"],
  ...["announcements: lost", "announcements: late", "announcements: twice"],
  ...["a job came back unheard", "a viewer came to a node that lagged"],
  ...["an append of unknown outcome", "what was lost was looked for"],
];

const BETWEEN_TURNS = ["join", "pause", "say", "the crowd"].map((what) => `${what} between turns`);

const sequences = (commands: fc.Arbitrary<ModelCommand>[], maxCommands: number) =>
  fc.commands(commands, { maxCommands, size: "max" });

async function play(config: Config, commands: Iterable<ModelCommand>, coverage: Coverage) {
  const { below } = seededRandom(config.seed);
  // Jitter, too, comes again.
  const jitter = vi.spyOn(Math, "random").mockImplementation(() => below(2 ** 32) / 2 ** 32);
  try {
    const clock = new ManualClock();
    const model = new Model(config, clock.now, coverage);
    const system = new System(model, clock, below);
    system.publish(0, { type: "job", jobId: JOB, status: "running" });
    await calm(model, system);
    if (config.crowd) {
      model.crowd = new Crowd();
      model.crowd.mayOverfill = true; // by its last word
      const how = { mode: config.crowd, codec: lines };
      await model.crowd.joinMany(system.node(0).monitor, JOB, CROWD, how);
    }
    await fc.asyncModelRun(() => ({ model, real: system }), commands);
    await finish(model, system);
  } finally {
    jitter.mockRestore();
  }
}

/** Plays so many sequences; returns how often what happened. */
async function playAll(
  setups: fc.Arbitrary<Config>,
  sequences: fc.Arbitrary<Iterable<ModelCommand>>,
  runs: typeof RUNS,
): Promise<Coverage> {
  const coverage: Coverage = new Map();
  const property = fc.asyncProperty(setups, sequences, (config, commands) =>
    play(config, commands, coverage),
  );
  await fc.assert(property, runs);
  return coverage;
}

/** A few runs of one's own need not have seen everything. */
const unseen = (coverage: Coverage, situations: readonly string[]) =>
  FC_RUNS ? [] : situations.filter((situation) => !coverage.has(situation));

test("whatever happens, every viewer gets what the log has", { timeout: 3_600_000 }, async () => {
  const coverage = await playAll(configs, sequences(allCommands, 60), RUNS);
  expect(unseen(coverage, SITUATIONS)).toEqual([]);
});

test("so it is when a room needs several turns for its members", {
  timeout: 3_600_000,
}, async () => {
  const coverage = await playAll(crowded, sequences(crowdedCommands, 50), CROWDED);
  expect(unseen(coverage, BETWEEN_TURNS)).toEqual([]);
});
