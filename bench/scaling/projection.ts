import { type Costs, costsOf, type Load, scattered, type UnitCosts } from "./model.js";

/** Viewers of jobs; `rate` is updates a second of each job. */
export interface Crowd {
  jobs: number;
  viewersOfJob: number;
  rate: number;
}

/** More would be a long queue when it dies. */
export const VIEWERS_OF_NODE = 50_000;
/** Of a core: what is left is for bursts, and for those that come back. */
export const BUSY = 0.6;

export interface Projection {
  nodes: number;
  /** Redis processes, between which the jobs are divided; a job is on one of them. */
  redis: number;
  costs: Costs;
  gigabits: { redis: number; nodes: number };
}

/** What a crowd takes. `routed`: a job's viewers come to one node, else each of them to any. */
export function project(crowd: Crowd, unit: UnitCosts, routed: boolean): Projection {
  const viewers = crowd.jobs * crowd.viewersOfJob;
  const costsWith = (nodes: number): Costs => {
    const watching = routed ? 1 : scattered(nodes, crowd.viewersOfJob);
    const load: Load = { nodes, publishers: 0, ...crowd, viewers, watching };
    return costsOf(load, unit);
  };
  // More nodes hear more announcements, which may take more nodes.
  let nodes = Math.ceil(viewers / VIEWERS_OF_NODE);
  for (let more = nodes; ; nodes = more) {
    more = Math.max(nodes, Math.ceil(costsWith(nodes).nodes.cpu / BUSY));
    if (more === nodes) break;
  }
  const costs = costsWith(nodes);
  const gigabits = (bytes: number) => (bytes * 8) / 1e9;
  return {
    nodes,
    redis: Math.ceil(costs.redis.cpu / BUSY),
    costs,
    gigabits: { redis: gigabits(costs.redis.bytesOut), nodes: gigabits(costs.nodes.bytesOut) },
  };
}
