import type { StageSnapshot } from "@org/workflow-monitor-client";

export interface GraphEdge {
  /** Unique in its graph. */
  id: string;
  from: string;
  to: string;
  /** It closes a cycle: layouts that go from left to right leave it out of the order. */
  back: boolean;
}

/** What is laid out: the stages and what they wait for. The same object while neither changes. */
export interface GraphModel {
  /** In plan order. */
  nodes: readonly string[];
  /** Without unknown stages, repetitions, and stages that wait for themselves. */
  edges: readonly GraphEdge[];
}

type Planned = Pick<StageSnapshot, "stage" | "dependsOn">;

const isSameList = (one: readonly string[], other: readonly string[]): boolean =>
  one === other || (one.length === other.length && one.every((item, at) => item === other[at]));

/** Whether two lists of stages make the same graph. Cheap for stages that are the same objects. */
export const isSameGraph = (one: readonly Planned[], other: readonly Planned[]): boolean =>
  one === other ||
  (one.length === other.length &&
    one.every((stage, at) => {
      const twin = other[at];
      return (
        twin === stage ||
        (twin?.stage === stage.stage && isSameList(twin.dependsOn, stage.dependsOn))
      );
    }));

/** The graph of the stages. Cycles, unknown names and repetitions in `dependsOn` are fine. */
export function graphModel(stages: readonly Planned[]): GraphModel {
  const nodes = stages.map(({ stage }) => stage);
  const known = new Set(nodes);
  const pairs = stages.flatMap(({ stage, dependsOn }) =>
    [...new Set(dependsOn)]
      .filter((from) => known.has(from) && from !== stage)
      .map((from) => ({ from, to: stage })),
  );
  const back = closingCycles(nodes, pairs);
  return {
    nodes,
    edges: pairs.map((pair, at) => ({ ...pair, id: `e${at}`, back: back.has(pair) })),
  };
}

interface Pair {
  from: string;
  to: string;
}

/** The edges that lead back to a node whose descendants are being visited. Without recursion: chains may be long. */
function closingCycles(nodes: readonly string[], pairs: readonly Pair[]): Set<Pair> {
  const out = new Map<string, Pair[]>(nodes.map((node) => [node, []]));
  for (const pair of pairs) out.get(pair.from)?.push(pair);
  const state = new Map<string, "open" | "done">();
  const closing = new Set<Pair>();
  for (const root of nodes) {
    if (state.has(root)) continue;
    const path = [{ node: root, next: 0 }];
    state.set(root, "open");
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const pair = out.get(top.node)?.[top.next];
      top.next += 1;
      if (!pair) {
        state.set(top.node, "done");
        path.pop();
      } else if (state.get(pair.to) === "open") closing.add(pair);
      else if (!state.has(pair.to)) {
        state.set(pair.to, "open");
        path.push({ node: pair.to, next: 0 });
      }
    }
  }
  return closing;
}

/** The nodes of each layer: one after everything it waits for. Edges that close cycles do not count. */
export function layersOf({ nodes, edges }: GraphModel): string[][] {
  const ahead = edges.filter(({ back }) => !back);
  const waitsFor = new Map<string, number>(nodes.map((node) => [node, 0]));
  const out = new Map<string, string[]>(nodes.map((node) => [node, []]));
  for (const { from, to } of ahead) {
    waitsFor.set(to, (waitsFor.get(to) ?? 0) + 1);
    out.get(from)?.push(to);
  }
  const layers: string[][] = [];
  let layer = nodes.filter((node) => waitsFor.get(node) === 0);
  while (layer.length > 0) {
    layers.push(layer);
    const next: string[] = [];
    for (const node of layer) {
      for (const to of out.get(node) ?? []) {
        const left = (waitsFor.get(to) ?? 0) - 1;
        waitsFor.set(to, left);
        if (left === 0) next.push(to);
      }
    }
    layer = next;
  }
  return layers;
}
