/**
 * What a cluster costs, as docs/scaling.md writes it. Everything is a second's; CPU is in cores, which
 * is seconds a second.
 */

/** What happens to a cluster. */
export interface Load {
  nodes: number;
  publishers: number;
  jobs: number;
  /** Viewers, on all nodes. */
  viewers: number;
  /** Updates of each job a second. */
  rate: number;
  /** Of how many nodes a job has viewers, on average. */
  watching: number;
}

/** What one of each costs: measured. CPU in seconds. */
export interface UnitCosts {
  /** Bytes of Redis: a job with its beginning, and an update while history is kept. */
  stored: { job: number; update: number };
  append: { cpu: number; bytesIn: number; bytesOut: number };
  /** An announcement that Redis sends to one node. */
  message: { cpu: number; bytesOut: number };
  /** An announcement that a node hears; an update that it sends to a viewer. */
  heard: { cpu: number };
  delivery: { cpu: number; bytes: number };
  /** Bytes of heap and buffers. */
  viewer: { memory: number };
}

export interface Costs {
  appends: number;
  messages: number;
  deliveries: number;
  /** Calls of scripts: appends, and each room's check of its position. */
  scripts: number;
  redis: { cpu: number; bytesIn: number; bytesOut: number; connections: number };
  /** All nodes together. */
  nodes: { cpu: number; bytesOut: number; memory: number };
}

/** The mean of 25–40 s. */
const CHECK_S = 32.5;
/** What a check is answered with, when the job has changed: its fields, in jobs. */
const HEAD = 1.5;
/** One for commands, one that subscribes. */
const CONNECTIONS = 2;

export function costsOf(load: Load, unit: UnitCosts): Costs {
  const { nodes, publishers, jobs, viewers, rate, watching } = load;
  const appends = jobs * rate;
  const messages = appends * watching;
  const deliveries = viewers * rate;
  const checks = (jobs * watching) / CHECK_S;
  return {
    appends,
    messages,
    deliveries,
    scripts: appends + checks,
    redis: {
      cpu: (appends + checks) * unit.append.cpu + messages * unit.message.cpu, // a check is no dearer
      bytesIn: appends * unit.append.bytesIn,
      bytesOut:
        appends * unit.append.bytesOut +
        messages * unit.message.bytesOut +
        checks * HEAD * unit.delivery.bytes,
      connections: CONNECTIONS * (nodes + publishers),
    },
    nodes: {
      cpu: messages * unit.heard.cpu + deliveries * unit.delivery.cpu,
      bytesOut: deliveries * unit.delivery.bytes,
      memory: viewers * unit.viewer.memory,
    },
  };
}

/** Of how many nodes a job has viewers, when each of them comes to any node. */
export const scattered = (nodes: number, viewersOfJob: number): number =>
  nodes * (1 - (1 - 1 / nodes) ** viewersOfJob);
