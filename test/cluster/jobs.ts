import type { PublishedEvent } from "@org/workflow-monitor";
import type { History } from "@org/workflow-monitor/testing";
import type { Random } from "../support/random.js";
import { until } from "../support/wait.js";
import type { Ledger } from "./ledger.js";
import type { ClusterProcess } from "./process.js";
import type { PublisherCalls } from "./publisher.js";

type Publisher = ClusterProcess<PublisherCalls>;

export interface LiveJob {
  readonly jobId: string;
  /** Whoever may publish to it. */
  readonly publishers: readonly Publisher[];
  run: number;
  over: boolean;
  /** Events without an answer. */
  unanswered: number;
}

export interface JobsOptions {
  history: History;
  ledger: Ledger;
  random: Random;
}

const MOST_UNANSWERED = 30;
const MOST_SECONDS = 60;
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Plays workflows: from a plan to the end of the last run, over one publisher or several that race. */
export class Jobs {
  /** Those that have begun and are not over, so that somebody may watch them. */
  readonly live = new Set<LiveJob>();
  readonly all: LiveJob[] = [];
  readonly counts = { runs: 0, events: { acknowledged: 0, unknown: 0 } };
  /** Messages of events without an answer. */
  readonly saying = new Set<string>();
  /** Codes that publishes were refused with. */
  readonly refused = new Map<string, number>();
  /** Nothing new is published while it holds. */
  held = false;
  /** No job begins any more. */
  finishing = false;
  readonly #options: JobsOptions;
  #messages = 0;

  constructor(options: JobsOptions) {
    this.#options = options;
  }

  get unanswered(): number {
    return this.all.reduce((sum, job) => sum + job.unanswered, 0);
  }

  /** One after another, until it is `finishing`. */
  async playAll(kind: string, publishers: readonly Publisher[]): Promise<void> {
    for (let n = 1; !this.finishing; n++) await this.#play(`${kind} ${n}`, publishers);
  }

  /** Says something to every publisher that can be asked; it changes nothing, but makes each of them look. */
  async remind(job: LiveJob): Promise<void> {
    const there = job.publishers.filter(({ alive }) => alive);
    const event = { type: "job", jobId: job.jobId, run: job.run } as const;
    await Promise.all(there.map((publisher) => this.#publish(job, event, publisher)));
  }

  /** Something that changes each live job of a publisher. Resolves when all is answered. */
  async sayToAll(publisher: Publisher): Promise<void> {
    const mine = [...this.live].filter(({ publishers }) => publishers.includes(publisher));
    const say = (job: LiveJob) => {
      const { jobId, run } = job;
      const event = { type: "job", jobId, run, message: this.#message(jobId) } as const;
      return this.#publish(job, event, publisher);
    };
    await Promise.all(mine.map(say));
  }

  async #play(jobId: string, publishers: readonly Publisher[]): Promise<void> {
    const { random } = this.#options;
    const job: LiveJob = { jobId, publishers, run: 1, over: false, unanswered: 0 };
    this.all.push(job);
    const stages = ["fetch", "check", "build", "test", "pack", "ship"].slice(
      0,
      3 + random.below(4),
    );
    await this.#surely(job, {
      ...{ type: "plan", jobId, run: 1, name: `Job ${jobId}`, labels: { kind: jobId.charAt(0) } },
      stages: stages.map((stage) => ({ stage, maxAttempts: 2, weight: 1 + random.below(3) })),
    });
    this.live.add(job);
    const runs = 1 + random.below(2);
    for (job.run = 1; ; job.run++) {
      await this.#playRun(job, stages);
      this.counts.runs += 1;
      if (job.run === runs || this.finishing) break;
      await this.#pace(job);
    }
    this.live.delete(job);
    job.over = true;
  }

  async #playRun(job: LiveJob, stages: readonly string[]): Promise<void> {
    const { random } = this.#options;
    const { jobId, run } = job;
    const fails = random.below(4) === 0 ? random.pick(stages) : undefined;
    for (const stage of stages) {
      const at = { type: "stage", jobId, run, stage } as const;
      let attempt = 1;
      await this.#surely(job, { ...at, attempt, status: "running" });
      await this.#chatter(job, at, attempt);
      if (stage === fails || random.below(4) === 0) {
        await this.#surely(job, { ...at, attempt, status: "failed", error: "it broke" });
        attempt = 2;
        await this.#surely(job, { ...at, attempt, status: "running" });
        await this.#chatter(job, at, attempt);
      }
      if (stage === fails) break;
      await this.#surely(job, { ...at, attempt, status: "completed" });
    }
    // What is late cannot get into the next run: it says which one it is of.
    const status = fails === undefined ? "completed" : "failed";
    if (fails !== undefined || random.below(2) === 0)
      await this.#surely(job, { type: "job", jobId, run, status });
  }

  /** Progress and messages, whose publisher does not wait. */
  async #chatter(
    job: LiveJob,
    at: { type: "stage"; jobId: string; run: number; stage: string },
    attempt: number,
  ): Promise<void> {
    const { random } = this.#options;
    const steps = this.finishing ? 1 : 2 + random.below(5);
    for (let step = 1; step <= steps; step++) {
      await this.#pace(job);
      const burst = random.below(40) === 0 ? 100 : 1 + random.below(2);
      for (let n = 0; n < burst; n++) {
        const progress = Math.floor((100 * step) / (steps + 1));
        const says = random.below(3) > 0 ? { message: this.#message(at.jobId) } : {};
        void this.#publish(job, { ...at, attempt, progress, ...says });
      }
    }
  }

  /** Until it is acknowledged. Some are said by two publishers at once, who race. */
  async #surely(job: LiveJob, event: PublishedEvent): Promise<void> {
    const { random } = this.#options;
    await this.#mayGo(job);
    const named = random.below(2) === 0;
    for (;;) {
      const message = event.type === "plan" ? {} : { message: this.#message(event.jobId) };
      const said: PublishedEvent = { ...event, ...message };
      if (named) said.id = `${event.jobId} ${this.#messages}`;
      const racers = named && random.below(2) === 0 ? 2 : 1;
      const answers = Array.from({ length: racers }, () => this.#publish(job, said));
      if ((await Promise.all(answers)).some(Boolean)) return;
      await sleep(100);
    }
  }

  /** Whether it was acknowledged. */
  async #publish(job: LiveJob, event: PublishedEvent, by?: Publisher): Promise<boolean> {
    const { history, ledger, random } = this.#options;
    const { jobId } = job;
    const message = event.type === "plan" ? undefined : event.message;
    job.unanswered += 1;
    if (message) this.saying.add(message);
    try {
      const there = () => job.publishers.filter(({ alive }) => alive);
      await until(`somebody publishes to ${jobId}`, () => there().length > 0, MOST_SECONDS * 1_000);
      const publisher = by ?? (random.pick(there()) as Publisher);
      const { lifeName } = publisher;
      const outcome = await publisher.call("publish", event);
      if (typeof outcome !== "string") {
        ledger.answered(lifeName, jobId, outcome);
        this.counts.events.acknowledged += 1;
        history.published(jobId, outcome, event);
        return true;
      }
      this.refused.set(outcome, (this.refused.get(outcome) ?? 0) + 1);
    } catch {
      // It was killed.
    } finally {
      job.unanswered -= 1;
      if (message) this.saying.delete(message);
    }
    this.counts.events.unknown += 1;
    history.indeterminate(jobId, event);
    return false;
  }

  async #pace(job: LiveJob): Promise<void> {
    await sleep(50 + this.#options.random.below(350));
    await this.#mayGo(job);
  }

  async #mayGo(job: LiveJob): Promise<void> {
    while (this.held || job.unanswered > MOST_UNANSWERED) await sleep(20);
  }

  /** One of a kind: that an event is counted twice shows. */
  #message(jobId: string): string {
    this.#messages += 1;
    return `${jobId}: message ${this.#messages}`;
  }
}
