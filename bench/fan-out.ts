import { type Child, start } from "./child.js";
import type { Cpu, FanOutSubject, ServerCalls, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

/** Subjects that are measured side by side. */
export const WEB_SOCKETS = ["ours", "ours-delta", "ws", "socket.io", "uws", "floor"] as const;
export const SSE = ["ours", "ours-sse", "better-sse"] as const;
export const BURST = 20;
/** Connected before memory is measured: what the first viewers cost is code, not viewers. */
export const FIRST_VIEWERS = 100;
const WARM_UP_UPDATES = 20;

/** Per delivered update, in microseconds of the server's CPU; `heap` per viewer, in bytes. */
export interface FanOutCosts {
  tick: { all: Series; user: Series; system: Series };
  burst: { all: Series; user: Series; system: Series };
  heap: Series;
  /** The size of an update. */
  bytes: number;
}
export type FanOutResults<S extends FanOutSubject> = Record<S, FanOutCosts>;

/** One update a tick, bursts, memory of idle viewers. */
export async function measureFanOut<S extends FanOutSubject>(
  subjects: readonly S[],
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<FanOutResults<S>> {
  const results = Object.fromEntries(
    subjects.map((subject) => [subject, emptyCosts()]),
  ) as FanOutResults<S>;
  for (let life = 0; life < settings.lives; life++) {
    log(`fan-out, life ${life + 1} of ${settings.lives}: connecting`);
    const viewers = start<ViewerCalls>(settings.file("viewers"));
    const contestants: Contestant[] = [];
    for (const subject of subjects) {
      const contestant = new Contestant(subject, settings, viewers, results[subject]);
      await contestant.begin(frame);
      contestants.push(contestant);
    }
    for (let round = 0; round < settings.rounds; round++) {
      log(`fan-out, life ${life + 1} of ${settings.lives}: round ${round + 1}`);
      // In turns, so that what else happens on the machine happens to all; to and fro, so that
      // nobody is always the first or always after the same one.
      for (let turn = round; turn < round + settings.turns; turn++) {
        const order = turn % 2 === 0 ? contestants : contestants.toReversed();
        for (const contestant of order) await contestant.ticks();
      }
      const order = round % 2 === 0 ? contestants : contestants.toReversed();
      for (const contestant of order) await contestant.bursts();
      for (const contestant of contestants) contestant.endRound();
    }
    viewers.stop();
    for (const contestant of contestants) contestant.end();
  }
  return results;
}

type Phase = "tick" | "burst";

/** One subject's server, with its viewers in the process that all viewers share. */
class Contestant {
  readonly #subject: FanOutSubject;
  readonly #settings: Settings;
  readonly #viewers: Child<ViewerCalls>;
  readonly #costs: FanOutCosts;
  readonly #server: Child<ServerCalls>;
  #updates = 0;
  #round = emptyRound();

  constructor(
    subject: FanOutSubject,
    settings: Settings,
    viewers: Child<ViewerCalls>,
    costs: FanOutCosts,
  ) {
    this.#subject = subject;
    this.#settings = settings;
    this.#viewers = viewers;
    this.#costs = costs;
    this.#server = start<ServerCalls>(settings.file("server"));
  }

  async begin(frame: UpdateFrame): Promise<void> {
    const subject = this.#subject;
    const target = await this.#server.call("listen", { subject: `fan-out ${subject}`, frame });
    await this.#viewers.call("connect", subject, target, FIRST_VIEWERS);
    const before = await this.#memory();
    const count = this.#settings.viewers - FIRST_VIEWERS;
    await this.#profiled("connect", () => this.#viewers.call("connect", subject, target, count));
    this.#costs.heap.push(((await this.#memory()) - before) / count);
    for (let n = 0; n < WARM_UP_UPDATES; n++) await this.#send(1);
    await this.#send(BURST);
  }

  /** A turn of the round: one update, and the next one when everybody has it. */
  async ticks(): Promise<void> {
    const updates = this.#settings.updates / this.#settings.turns;
    await this.#measured("tick", updates, async () => {
      for (let n = 0; n < updates; n++) await this.#send(1);
    });
  }

  async bursts(): Promise<void> {
    await this.#measured("burst", this.#settings.bursts * BURST, async () => {
      for (let n = 0; n < this.#settings.bursts; n++) await this.#send(BURST);
    });
  }

  endRound(): void {
    for (const phase of ["tick", "burst"] as const) {
      const { updates, user, system } = this.#round[phase];
      const deliveries = updates * this.#settings.viewers;
      const into = this.#costs[phase];
      into.user.push(user / deliveries);
      into.system.push(system / deliveries);
      into.all.push((user + system) / deliveries);
    }
    this.#round = emptyRound();
  }

  end(): void {
    this.#server.stop();
  }

  async #memory(): Promise<number> {
    return (await this.#server.call("memory")).live;
  }

  /** Resolves when every viewer had them: so there is no CPU time without its deliveries. */
  async #send(count: number): Promise<void> {
    const from = this.#updates + 1;
    this.#updates += count;
    const [{ bytes }] = await Promise.all([
      this.#viewers.call("expect", this.#subject, count),
      this.#server.call("update", from, count),
    ]);
    if (count === 1) this.#costs.bytes = bytes;
  }

  async #measured(phase: Phase, updates: number, work: () => Promise<void>): Promise<void> {
    const before = await this.#server.call("cpu");
    await this.#profiled(phase, work);
    const after = await this.#server.call("cpu");
    const spent = this.#round[phase];
    spent.updates += updates;
    spent.user += after.user - before.user;
    spent.system += after.system - before.system;
  }

  async #profiled(name: string, work: () => Promise<void>): Promise<void> {
    const file = this.#settings.profile(`${this.#subject}-${name}`);
    if (file === undefined) return work();
    await this.#server.call("profile", null);
    await work();
    await this.#server.call("profile", file);
  }
}

const emptyRound = (): Record<Phase, Cpu & { updates: number }> => ({
  tick: { updates: 0, user: 0, system: 0 },
  burst: { updates: 0, user: 0, system: 0 },
});

const emptyCosts = (): FanOutCosts => ({
  tick: { all: [], user: [], system: [] },
  burst: { all: [], user: [], system: [] },
  heap: [],
  bytes: 0,
});
