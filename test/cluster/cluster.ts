import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHistory } from "@org/workflow-monitor/testing";
import { expect, test } from "vitest";
import { withoutRedis } from "../support/redis.js";
import { inTime, until } from "../support/wait.js";
import { type Faults, processFaults, redisFaults, shuffled } from "./faults.js";
import { Gate } from "./gate.js";
import { random, range, startCluster } from "./members.js";
import { report, spread } from "./report.js";
import { Rest } from "./rest.js";
import { JOBS, NODES, PUBLISHERS, REST_MS, SECONDS, SEED, VIEWERS } from "./settings.js";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const cast = `${NODES} nodes, ${PUBLISHERS} publishers, ${VIEWERS} viewers and their Redis`;

test.skipIf(withoutRedis)(
  `${SECONDS} s of faults between ${cast} lose nothing`,
  {
    timeout: (SECONDS + 300) * 1_000,
  },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "workflow-monitor-cluster-"));
    console.log(`cluster: seed ${SEED}; processes log to ${folder}`);
    const history = createHistory();
    const cluster = await startCluster(history, folder);
    const { publishers, jobs, viewers, crashes } = cluster;
    const gate = new Gate();
    const rest = new Rest(cluster, random(3));
    const faults: Record<string, number> = {};
    const end = performance.now() + SECONDS * 1_000;

    /** Faults until the time is over, and each of a kind at least once. */
    async function disturb(kinds: Faults, pause: (name: string) => Promise<void>, use: number) {
      const names = Object.keys(kinds);
      for (const name of names) faults[name] = 0;
      for (const name of shuffled(names, random(use))) {
        if (performance.now() > end && names.every((each) => faults[each])) return;
        await gate.pass(kinds[name] as () => Promise<void>);
        faults[name] = (faults[name] ?? 0) + 1;
        await pause(name);
      }
    }

    /** Half of the time the next fault comes on top. */
    const [calm, breath] = [random(4), random(5)];
    const restOrGoOn = (name: string) =>
      calm.below(2) === 0 ? gate.alone(() => rest.after(name)) : sleep(calm.below(1_000));
    const goOn = () => sleep(500 + breath.below(2_500));

    const playing = Promise.all([
      ...range(JOBS.shared).map((n) => jobs.playAll(`shared ${n}`, publishers)),
      ...publishers.flatMap((each) =>
        range(JOBS.own).map((n) => jobs.playAll(`own of ${each.name} ${n}`, [each])),
      ),
    ]);
    const watching = Promise.all(range(VIEWERS).map((person) => viewers.watchAll(person)));
    void viewers.churn(100);
    await Promise.race([
      Promise.all([
        disturb(redisFaults(cluster, random(6)), restOrGoOn, 7),
        disturb(processFaults(cluster, random(8)), goOn, 9),
      ]),
      // They end later, unless they fail.
      Promise.all([playing, watching]),
    ]);

    jobs.finishing = true;
    await inTime("the end of all jobs", playing, REST_MS);
    await rest.after("the last fault");
    await until("everybody has seen the end", () => viewers.now.size === 0, REST_MS);
    viewers.stopped = true;
    await inTime("the end of the viewers", watching);
    const acknowledged = await rest.recordHeads(history);

    const { published, snapshots, resumed, skipped, updates, ends } = history.summary;
    const lines = report({
      seed: SEED,
      seconds: SECONDS,
      faults,
      jobs: { jobs: jobs.all.length, runs: jobs.counts.runs, epochs: viewers.once.epochs },
      events: { ...jobs.counts.events, revisions: published - jobs.counts.events.acknowledged },
      viewers: viewers.counts,
      connections: viewers.connections,
      frames: { snapshots, resumed, skipped, updates, ends },
      "Redis away": viewers.stale,
      "at rest": spread(rest.took),
      acknowledged,
    });
    console.log(lines);

    history.check();
    expect(viewers.once.twice).toEqual([]);
    expect(viewers.closed).toEqual([]);
    expect(crashes).toEqual([]);
    expect(viewers.hopeless).toBe(0);
    for (const [name, count] of Object.entries({
      ...{ ...faults, ...viewers.stale, resumed, ends, there: acknowledged.there },
    }))
      expect(count, name).toBeGreaterThan(0);
    rmSync(folder, { recursive: true });
  },
);
