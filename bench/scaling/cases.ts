import { once } from "node:events";
import { connect as connectTo, type Socket } from "node:net";
import { startRedis } from "../../test/support/redis.js";
import { type Child, start } from "../child.js";
import type { ServerCalls, Target, ViewerCalls } from "../messages.js";
import type { UpdateFrame } from "../payload.js";
import { type Spread, spread } from "../stats.js";
import type { Load } from "./model.js";
import type { ScalingPublisherCalls } from "./publisher.js";
import { forgetAsked, type RedisCounts, redisCounts } from "./redis-info.js";

export interface Amounts {
  jobs: number;
  viewersOfJob: number;
  /** Of each job, a second. */
  rate: number;
  seconds: number;
  rounds: number;
}

/** A cluster that is measured. */
export interface Case extends Amounts {
  nodes: number;
  /** A job's viewers are all on one node. */
  routed: boolean;
  /** Connections that only hear the announcements of all jobs. */
  listeners: number;
}

/** What was measured; everything but memory is a second's, CPU in cores. */
export interface Measured {
  load: Load;
  listeners: number;
  redis: Record<"cpu" | "bytesIn" | "bytesOut" | "scripts", Spread>;
  connections: number;
  nodeCpu: Spread;
  publisherCpu: Spread;
  /** Cores, when nothing happens. */
  idle: { redis: number; nodes: number };
  /** Bytes a viewer, of heap and buffers. */
  viewerMemory: number;
  /** Bytes of Redis: a job with its beginning, and an update while history is kept. */
  redisMemory: { job: number; update: number };
  /** To open all rooms. */
  opening: { scripts: number; subscribed: number; rooms: number };
  frameBytes: number;
}

const IDLE_MS = 4_000;

/** The built file of a child process. */
type FileOf = (name: "server" | "viewers" | "scaling/publisher") => string;

export async function measureCase(one: Case, frame: UpdateFrame, file: FileOf): Promise<Measured> {
  const redis = await startRedis();
  forgetAsked();
  const publisher = start<ScalingPublisherCalls>(file("scaling/publisher"));
  const viewers = start<ViewerCalls>(file("viewers"));
  const nodes: Child<ServerCalls>[] = [];
  try {
    const counts = () => redisCounts(redis.port);
    const empty = (await counts()).memory;
    await publisher.call("begin", redis.url, one.jobs);
    const begun = (await counts()).memory;
    const targets: Target[] = [];
    for (let n = 0; n < one.nodes; n++) {
      const node = start<ServerCalls>(file("server"));
      nodes.push(node);
      targets.push(await node.call("listen", { subject: "node ours", frame, redis: redis.url }));
    }
    const hearing = await Promise.all(
      Array.from({ length: one.listeners }, () => listen(redis.port, one.jobs)),
    );
    const opened = await connect(one, targets, nodes, viewers, counts);
    const cpu = async () => ({
      nodes: await cpuOf(nodes),
      publisher: await cpuOf([publisher]),
      redis: await counts(),
    });

    const before = await cpu();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const after = await cpu();
    const idle = {
      redis: (after.redis.cpu - before.redis.cpu) / (IDLE_MS / 1_000),
      nodes: (after.nodes - before.nodes) / (IDLE_MS / 1_000),
    };

    const seen: Record<string, number[]> = {};
    const note = (name: string, value: number) => {
      seen[name] = [...(seen[name] ?? []), value];
    };
    let frameBytes = 0;
    const growth: number[] = [];
    for (let round = -1; round < one.rounds; round++) {
      const updates = one.jobs * one.rate * one.seconds;
      const from = await cpu();
      const waiting = opened.crowds.map((crowd) =>
        viewers.call("expect", crowd, updates / one.jobs),
      );
      const seconds = await publisher.call("publish", updates, one.jobs * one.rate);
      for (const { bytes } of await Promise.all(waiting)) frameBytes = bytes;
      const to = await cpu();
      if (round < 0) continue; // to warm up
      growth.push((to.redis.memory - from.redis.memory) / updates);
      for (const name of ["cpu", "bytesIn", "bytesOut", "scripts"] as const)
        note(name, (to.redis[name] - from.redis[name]) / seconds);
      note("nodes", (to.nodes - from.nodes) / seconds);
      note("publisher", (to.publisher - from.publisher) / seconds);
    }
    const of = (name: string) => spread(seen[name] ?? []);
    for (const socket of hearing) socket.destroy();
    return {
      load: loadOf(one),
      listeners: one.listeners,
      redis: {
        cpu: of("cpu"),
        bytesIn: of("bytesIn"),
        bytesOut: of("bytesOut"),
        scripts: of("scripts"),
      },
      connections: (await counts()).connections,
      nodeCpu: of("nodes"),
      publisherCpu: of("publisher"),
      idle,
      redisMemory: { job: (begun - empty) / one.jobs, update: spread(growth).median },
      ...opened,
      frameBytes,
    };
  } finally {
    for (const child of [publisher, viewers, ...nodes]) child.stop();
    await redis.close();
  }
}

function loadOf({ nodes, jobs, viewersOfJob, rate, routed }: Case): Load {
  const watching = nodes === 0 ? 0 : routed ? 1 : nodes;
  const viewers = nodes === 0 ? 0 : jobs * viewersOfJob;
  return { nodes, publishers: 1, jobs, viewers, rate, watching };
}

/** Subscribes to what the store announces of all jobs, and reads it away. */
async function listen(port: number, jobs: number): Promise<Socket> {
  const channels = Array.from({ length: jobs }, (_, job) => `wm:{${job}}`);
  const socket = connectTo(port, "127.0.0.1").resume();
  socket.write(`SUBSCRIBE ${channels.join(" ")}\r\n`);
  await once(socket, "data");
  return socket;
}

/** Brings the viewers to their nodes: each job's to all of them, as many to each, or to one. */
async function connect(
  { jobs, viewersOfJob, routed }: Case,
  targets: readonly Target[],
  nodes: readonly Child<ServerCalls>[],
  viewers: Child<ViewerCalls>,
  counts: () => Promise<RedisCounts>,
) {
  const memory = async () => {
    let live = 0;
    for (const node of nodes) live += (await node.call("memory")).live;
    return live;
  };
  const crowds: string[] = [];
  const before = await counts();
  const begin = async (job: number, at: number, count: number) => {
    const crowd = `${at} ${job}`;
    if (!crowds.includes(crowd)) crowds.push(crowd);
    const target = { ...(targets[at] as Target), path: `/ws?jobId=${job}` };
    await viewers.call("connect", crowd, target, count);
  };
  const placesOf = (job: number) => (routed ? [job % targets.length] : [...targets.keys()]);
  // One opens each room: what a room costs is no viewer's.
  for (let job = 0; job < jobs; job++) for (const at of placesOf(job)) await begin(job, at, 1);
  const after = await counts();
  const empty = await memory();
  let count = 0;
  for (let job = 0; job < jobs; job++) {
    const places = placesOf(job);
    if (places.length === 0) continue;
    const each = viewersOfJob / places.length - 1;
    for (const at of places) await begin(job, at, each);
    count += each * places.length;
  }
  return {
    crowds,
    viewerMemory: count === 0 ? 0 : ((await memory()) - empty) / count,
    opening: {
      scripts: after.scripts - before.scripts,
      subscribed: after.subscribed - before.subscribed,
      rooms: crowds.length,
    },
  };
}

/** Seconds of all of them together. */
async function cpuOf(
  children: readonly { call(name: "cpu"): Promise<{ user: number; system: number }> }[],
): Promise<number> {
  const all = await Promise.all(children.map((child) => child.call("cpu")));
  return all.reduce((sum, { user, system }) => sum + user + system, 0) / 1e6;
}
