import type { JobSnapshot } from "@org/workflow-monitor";
import type { History } from "@org/workflow-monitor/testing";
import type { Random } from "../support/random.js";
import type { LiveJob } from "./jobs.js";
import type { Cluster } from "./members.js";
import { pollJob } from "./poll.js";
import { REST_MS } from "./settings.js";
import type { WebNode } from "./viewers.js";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** One rest: how long it took to come to it, and what came last. */
export interface Took {
  after: string;
  ms: number;
  last: string;
}

/** Waits until everything is at rest, and says what is not. Nothing may disturb it meanwhile. */
export class Rest {
  readonly took: Took[] = [];
  readonly #cluster: Cluster;
  readonly #random: Random;

  constructor(cluster: Cluster, random: Random) {
    this.#cluster = cluster;
    this.#random = random;
  }

  /**
   * Holds publishers until all they said is answered, everything acknowledged is there, and every
   * viewer is at the head or has ended.
   */
  async after(fault: string): Promise<void> {
    const { jobs, ledger } = this.#cluster;
    const from = performance.now();
    jobs.held = true;
    const waiting = new Set(jobs.all);
    let why = "";
    while (jobs.unanswered > 0 || waiting.size > 0) {
      if (performance.now() - from > REST_MS)
        throw new Error(`not at rest ${REST_MS} ms after ${fault}: ${why}`);
      if (jobs.unanswered > 0) {
        why = `${jobs.unanswered} publishes wait`;
        await sleep(20);
        continue;
      }
      for (const job of waiting) {
        const what = await this.#unrest(job);
        if (what === undefined) waiting.delete(job);
        else why = what;
      }
      await sleep(20);
    }
    ledger.rested();
    this.took.push({ after: fault, ms: performance.now() - from, last: why });
    jobs.held = false;
  }

  /** What keeps a job from being at rest. */
  async #unrest({ jobId, over }: LiveJob): Promise<string | undefined> {
    const { ledger, nodes, viewers } = this.#cluster;
    const node = this.#random.pick(nodes) as WebNode;
    const answer = await headOf(node, jobId);
    if (typeof answer === "string") return `${node.process.name} answers for ${jobId}: ${answer}`;
    const { job } = answer;
    const { gone } = ledger.check(jobId, job);
    if (gone.length > 0) return gone.join("\n");
    if (over && !job?.done) {
      // Its end is rightly lost.
      viewers.giveUp(jobId);
      return undefined;
    }
    if (!job) return undefined;
    const head = `${job.epoch}.${job.revision}`;
    const behind = [...viewers.now].filter(
      (viewer) => viewer.jobId === jobId && viewer.cursor !== head,
    );
    if (behind.length === 0) return undefined;
    const [first] = behind;
    return `${behind.length} viewers of ${jobId} are not at ${head}: ${first?.name} is at ${first?.cursor} over ${first?.line}`;
  }

  /**
   * Tells the history of every job's head, which all nodes must agree on. How many acknowledged facts
   * (a job, an end, an end of a stage) are there, and how many rightly are not.
   */
  async recordHeads(
    history: History,
  ): Promise<{ there: number; "gone with its publisher": number }> {
    const { jobs, ledger, nodes } = this.#cluster;
    const facts = { there: 0, "gone with its publisher": 0 };
    for (const { jobId } of jobs.all) {
      const answers = await Promise.all(nodes.map((node) => headOf(node, jobId)));
      const texts = new Set(answers.map((answer) => JSON.stringify(answer)));
      if (texts.size > 1)
        throw new Error(`nodes disagree about ${jobId}: ${[...texts].join("\n")}`);
      const [answer] = answers;
      if (!answer || typeof answer === "string")
        throw new Error(`no answer for ${jobId}: ${answer}`);
      const { job } = answer;
      const { there, gone, rightlyGone } = ledger.check(jobId, job);
      if (gone.length > 0) throw new Error(gone.join("\n"));
      facts.there += there;
      facts["gone with its publisher"] += rightlyGone;
      if (job) history.head(jobId, job, job);
    }
    return facts;
  }
}

/** A text: why there is none. */
async function headOf(node: WebNode, jobId: string): Promise<{ job?: JobSnapshot } | string> {
  const { status, stale, text } = await pollJob(node, jobId);
  if (status === 404) return {};
  return status === 200 && !stale ? { job: JSON.parse(text) as JobSnapshot } : `${status} ${text}`;
}
