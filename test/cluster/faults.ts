import type { Random } from "../support/random.js";
import { inTime, until } from "../support/wait.js";
import type { Cluster } from "./members.js";
import { pollJob } from "./poll.js";
import { TIMEOUT_MS } from "./settings.js";
import type { WebNode } from "./viewers.js";

export type Faults = Record<string, () => Promise<void>>;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const NOTICED_MS = 15_000;

/** What may happen to Redis, and on the way to it. One at a time. */
export function redisFaults(cluster: Cluster, random: Random): Faults {
  const { redis, publishers, jobs, viewers, ledger } = cluster;
  const { proxy } = redis;
  const ways = [undefined, "toClient", "toServer"] as const;

  /** Waits until every node that lives has told its viewers that Redis is away. */
  async function noticed(): Promise<void> {
    const lives = cluster.nodes.map((node) => ({ node, life: node.process.life }));
    viewers.saidStale.clear();
    await until(
      "every node says that Redis is away",
      () =>
        lives.every(({ node, life }) => {
          const { process } = node;
          const excused = process.paused || process.life !== life || node.streams === 0;
          return excused || viewers.saidStale.has(node);
        }),
      NOTICED_MS,
    );
    for (const node of cluster.nodes) await saysSoToPolls(node);
  }

  async function saysSoToPolls(node: WebNode): Promise<void> {
    const { life } = node.process;
    const { jobId } = await liveJob();
    const answer = await pollJob(node, jobId);
    if (!answer.status && (!node.process.alive || node.process.life !== life)) return;
    const refused = answer.status === 503 && answer.retryAfter !== null;
    if (!refused && !answer.stale)
      throw new Error(`Redis is away, and a poll says ${JSON.stringify(answer)}`);
  }

  /** What was swallowed does not come back: only new connections are of use. */
  function fill(): void {
    proxy.cut();
    proxy.restore();
  }

  /** Somebody who is in the middle of it. */
  async function liveJob() {
    await until("a job is live", () => jobs.live.size > 0);
    return random.pick([...jobs.live])!;
  }

  const keyOf = async (type: "hash" | "stream", jobId: string) =>
    (await redis.keys(type)).filter((key) => key.includes(`{${encodeURIComponent(jobId)}}`));

  return {
    async "redis paused"() {
      redis.pause();
      await noticed();
      redis.resume();
    },
    async "redis cut off"() {
      proxy.cut();
      if (random.below(3) === 0) return;
      proxy.refuse();
      await noticed();
      proxy.restore();
    },
    async "redis delayed"() {
      proxy.latency(50 + random.below(400));
      await sleep(1_000 + random.below(1_500));
      proxy.restore();
    },
    async "redis black-holed"() {
      proxy.blackHole(random.pick(ways));
      await noticed();
      fill();
    },
    async "subscribers killed"() {
      await redis.command("CLIENT", "KILL", "TYPE", "pubsub");
    },
    async "clients killed"() {
      await redis.command("CLIENT", "KILL", "TYPE", "normal");
    },
    async "redis restarted with its data"() {
      await redis.restart("kept", random.below(1_500));
    },
    async "redis restarted without data"() {
      await redis.restart("lost", random.below(1_500));
      ledger.lost({});
    },
    async "lagging replica promoted"() {
      let from = 0;
      await redis.promoteLagging(random.below(1_500), () => {
        from = performance.now();
      });
      ledger.lost({ from });
    },
    async "streams trimmed"() {
      // An id, and a batch of unknown outcome, are known as long as they are in history.
      viewers.once.forgive(jobs.saying);
      for (const key of await redis.keys("stream"))
        await redis.command("XTRIM", key, "MAXLEN", random.below(3));
      viewers.once.forgive(jobs.saying);
    },
    async "head evicted"() {
      const job = await liveJob();
      for (const key of await keyOf("hash", job.jobId)) await redis.command("DEL", key);
      ledger.lost({ jobId: job.jobId });
      void jobs.remind(job);
    },
    async "stream evicted"() {
      const job = await liveJob();
      for (const key of await keyOf("stream", job.jobId)) await redis.command("DEL", key);
    },
    async "publisher stopped before its retry"() {
      await until("a publisher is there", () => publishers.some(isFree));
      const publisher = random.pick(publishers.filter(isFree))!;
      publisher.taken = true;
      const before = publisher.doubts;
      const doubts = () => publisher.doubts > before;
      for (let tries = 0; !doubts(); tries++) {
        if (tries === 5) throw new Error(`no append of ${publisher.name} times out`);
        if (tries > 0) fill();
        // From then on it knows where its jobs stand, and need not read first; unless its connection came
        // back a moment ago, and it looks at them just when nothing gets through any more: then once more.
        await inTime(`answers to ${publisher.name}`, jobs.sayToAll(publisher), NOTICED_MS);
        // Half of the time the append is done, and only its answer is lost.
        proxy.blackHole(random.pick(["toClient", "toServer"]));
        void jobs.sayToAll(publisher);
        await until("an append times out", doubts, 3 * TIMEOUT_MS).catch(() => {});
      }
      publisher.pause();
      fill();
      await sleep(500 + random.below(2_500));
      publisher.resume();
      publisher.taken = false;
    },
  };
}

/** What may happen to processes, at the same time. */
export function processFaults({ nodes, publishers, ledger }: Cluster, random: Random): Faults {
  const servers = nodes.map(({ process }) => process);

  async function take<P extends { taken: boolean; alive: boolean }>(
    processes: readonly P[],
    fault: (process: P) => Promise<void>,
  ): Promise<void> {
    const process = random.pick(processes.filter(isFree))!;
    process.taken = true;
    await fault(process);
    process.taken = false;
  }

  return {
    "node killed": () =>
      take(servers, async (node) => {
        await node.kill();
        await sleep(random.below(1_500));
        await node.start();
      }),
    "node paused": () =>
      take(servers, async (node) => {
        node.pause();
        await sleep(300 + random.below(2_700));
        node.resume();
      }),
    "publisher killed": () =>
      take(publishers, async (publisher) => {
        ledger.killed(publisher.lifeName);
        await publisher.kill();
        await sleep(random.below(1_000));
        await publisher.start();
      }),
  };
}

const isFree = ({ taken, alive }: { taken: boolean; alive: boolean }): boolean => !taken && alive;

/** Names of the faults, for ever: each of them once, in another order each time. */
export function* shuffled(names: readonly string[], random: Random): Generator<string> {
  for (;;) {
    const rest = [...names];
    while (rest.length > 0) yield rest.splice(random.below(rest.length), 1)[0] as string;
  }
}
