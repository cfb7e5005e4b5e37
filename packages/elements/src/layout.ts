import type { ELK, ElkNode } from "elkjs/lib/elk-api.js";
import type { GraphModel } from "./graph-model.js";
import {
  type Direction,
  NODE_HEIGHT,
  NODE_WIDTH,
  type Placement,
  type Point,
} from "./placement.js";

/** On the page's own thread a layout of more stages than this would be felt. */
const MOST_ON_PAGE = 100;
/** A worker that nobody needs any more holds tens of megabytes. */
const IDLE_MS = 10_000;

const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.padding": "[top=12,left=12,bottom=12,right=12]",
  "elk.spacing.nodeNode": "18",
  "elk.spacing.edgeNode": "14",
  "elk.spacing.edgeEdge": "8",
  "elk.layered.spacing.nodeNodeBetweenLayers": "44",
  "elk.layered.spacing.edgeNodeBetweenLayers": "16",
  "elk.layered.spacing.edgeEdgeBetweenLayers": "8",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
};

let engine: Promise<{ elk: ELK; onPage: boolean }> | undefined;
let idle: ReturnType<typeof setTimeout> | undefined;
let underWay = 0;

async function inWorker(workerUrl: string | URL | null): Promise<ELK> {
  const { default: Elk } = await import("elkjs/lib/elk-api.js");
  // Bundlers look for these words, as they stand.
  const worker = workerUrl
    ? new Worker(workerUrl, { type: "module" })
    : new Worker(new URL("./layout-worker.js", import.meta.url), { type: "module" });
  const elk = new Elk({ workerFactory: () => worker, algorithms: ["layered"] });
  return new Promise((resolve, reject) => {
    worker.addEventListener("error", () => {
      worker.terminate();
      reject(new Error("The worker for layouts cannot be loaded."));
    });
    elk.knownLayoutAlgorithms().then(() => resolve(elk), reject);
  });
}

async function onPage(): Promise<ELK> {
  const [{ default: Elk }, { default: algorithms }] = await Promise.all([
    import("elkjs/lib/elk-api.js"),
    import("elkjs/lib/elk-worker.min.js"),
  ]);
  return new Elk({ workerFactory: (url) => new algorithms.Worker(url), algorithms: ["layered"] });
}

/**
 * Lays a graph out with elkjs, which is loaded by then, in a worker where possible. Rejects when it
 * cannot be had, or when the graph is too large to be laid out without a worker.
 */
export async function layOut(
  model: GraphModel,
  direction: Direction,
  workerUrl: string | URL | null,
): Promise<Placement> {
  clearTimeout(idle);
  underWay += 1;
  try {
    engine ??= start(workerUrl);
    const { elk, onPage } = await engine;
    if (onPage && model.nodes.length > MOST_ON_PAGE) {
      throw new Error("There are too many stages to lay out without a worker.");
    }
    return placementOf(model, await elk.layout(inputOf(model, direction)));
  } finally {
    underWay -= 1;
    if (underWay === 0) idle = setTimeout(stop, IDLE_MS);
  }
}

async function start(workerUrl: string | URL | null): Promise<{ elk: ELK; onPage: boolean }> {
  try {
    return { elk: await inWorker(workerUrl), onPage: false };
  } catch {
    return { elk: await onPage(), onPage: true };
  }
}

function stop(): void {
  // What cannot be loaded has said so to who asked.
  engine?.then(({ elk }) => elk.terminateWorker()).catch(() => undefined);
  engine = undefined;
}

/** Numbers stand for the stages: their names may be anything. */
function inputOf({ nodes, edges }: GraphModel, direction: Direction): ElkNode {
  const numbers = new Map(nodes.map((node, at) => [node, String(at)]));
  return {
    id: "graph",
    layoutOptions: { ...OPTIONS, "elk.direction": direction.toUpperCase() },
    children: nodes.map((_, at) => ({
      id: String(at),
      width: NODE_WIDTH,
      height: NODE_HEIGHT,
    })),
    edges: edges.map(({ id, from, to }) => ({
      id,
      sources: [`${numbers.get(from)}`],
      targets: [`${numbers.get(to)}`],
    })),
  };
}

function placementOf(
  { nodes }: GraphModel,
  { width = 0, height = 0, children = [], edges = [] }: ElkNode,
): Placement {
  return {
    width,
    height,
    nodes: new Map(children.map(({ id, x = 0, y = 0 }) => [nodes[Number(id)] ?? "", { x, y }])),
    edges: new Map(
      edges.map(({ id, sections = [] }): [string, Point[]] => [
        id ?? "",
        sections.flatMap(({ startPoint, bendPoints = [], endPoint }) => [
          startPoint,
          ...bendPoints,
          endPoint,
        ]),
      ]),
    ),
  };
}
