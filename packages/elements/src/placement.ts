import { type GraphEdge, type GraphModel, layersOf } from "./graph-model.js";

/** In CSS pixels. */
export const NODE_WIDTH = 184;
export const NODE_HEIGHT = 58;
const LAYER_GAP = 44;
const NODE_GAP = 18;
/** Around the whole. */
const MARGIN = 12;

export interface Point {
  x: number;
  y: number;
}

/** `right` suits wide places, `down` narrow ones. */
export type Direction = "right" | "down";

/** Where everything is, in CSS pixels from the top left. */
export interface Placement {
  width: number;
  height: number;
  /** The top left of each stage. */
  nodes: ReadonlyMap<string, Point>;
  /** The bends of each edge, ends included, by the edge's id. */
  edges: ReadonlyMap<string, readonly Point[]>;
}

/** A place for stages in reading order, in as many columns as fit; for those that nothing connects. */
export function grid(nodes: readonly string[], width: number, top = MARGIN): Placement {
  const fitting = Math.floor((width - 2 * MARGIN + NODE_GAP) / (NODE_WIDTH + NODE_GAP));
  const columns = Math.max(1, Math.min(nodes.length, fitting));
  const rows = Math.ceil(nodes.length / columns);
  const places = nodes.map((node, at): [string, Point] => [
    node,
    {
      x: MARGIN + (at % columns) * (NODE_WIDTH + NODE_GAP),
      y: top + Math.floor(at / columns) * (NODE_HEIGHT + NODE_GAP),
    },
  ]);
  return {
    width: 2 * MARGIN + columns * (NODE_WIDTH + NODE_GAP) - NODE_GAP,
    height: top + rows * (NODE_HEIGHT + NODE_GAP) - NODE_GAP + MARGIN,
    nodes: new Map(places),
    edges: new Map(),
  };
}

/** The stages that something connects, and the others, each in plan order. */
export function parts(model: GraphModel): { connected: GraphModel; loose: string[] } {
  const ends = new Set(model.edges.flatMap(({ from, to }) => [from, to]));
  return {
    connected: { nodes: model.nodes.filter((node) => ends.has(node)), edges: model.edges },
    loose: model.nodes.filter((node) => !ends.has(node)),
  };
}

/** Puts what nothing connects below the rest. */
export function withLoose(placed: Placement, loose: readonly string[], width: number): Placement {
  if (loose.length === 0) return placed;
  const below = grid(loose, Math.max(width, placed.width), placed.height - MARGIN + LAYER_GAP);
  return {
    width: Math.max(placed.width, below.width),
    height: below.height,
    nodes: new Map([...placed.nodes, ...below.nodes]),
    edges: placed.edges,
  };
}

/**
 * A plain layered placement, at once: shown until the layout library has answered, and instead of it
 * where it cannot be loaded.
 */
export function quickPlacement({ nodes, edges }: GraphModel, direction: Direction): Placement {
  const layers = inOrder(layersOf({ nodes, edges }), edges);
  const [along, across] =
    direction === "right" ? [NODE_WIDTH, NODE_HEIGHT] : [NODE_HEIGHT, NODE_WIDTH];
  const breadth = Math.max(
    0,
    ...layers.map(({ length }) => length * (across + NODE_GAP) - NODE_GAP),
  );
  const places = new Map<string, Point>();
  for (const [depth, layer] of layers.entries()) {
    const free = breadth - (layer.length * (across + NODE_GAP) - NODE_GAP);
    for (const [at, node] of layer.entries()) {
      const a = MARGIN + depth * (along + LAYER_GAP);
      const b = MARGIN + free / 2 + at * (across + NODE_GAP);
      places.set(node, direction === "right" ? { x: a, y: b } : { x: b, y: a });
    }
  }
  const length = 2 * MARGIN + layers.length * (along + LAYER_GAP) - LAYER_GAP;
  const size = { along: length, across: breadth + 2 * MARGIN };
  return {
    width: direction === "right" ? size.along : size.across,
    height: direction === "right" ? size.across : size.along,
    nodes: places,
    edges: new Map(edges.map((edge) => [edge.id, bends(edge, places, direction)])),
  };
}

/** Each layer in the order of where its nodes come from, so that fewer edges cross. */
function inOrder(layers: string[][], edges: readonly GraphEdge[]): string[][] {
  const into = new Map<string, string[]>();
  for (const { from, to, back } of edges) if (!back) into.set(to, [...(into.get(to) ?? []), from]);
  const place = new Map<string, number>();
  return layers.map((layer) => {
    const middle = (node: string) => {
      const places = (into.get(node) ?? []).map((from) => place.get(from) ?? 0);
      return places.reduce((sum, at) => sum + at, 0) / (places.length || 1);
    };
    const middles = new Map(layer.map((node) => [node, middle(node)]));
    const sorted = layer.toSorted((a, b) => (middles.get(a) ?? 0) - (middles.get(b) ?? 0));
    for (const [at, node] of sorted.entries()) place.set(node, (at + 0.5) / sorted.length);
    return sorted;
  });
}

const NOWHERE: Point = { x: 0, y: 0 };

/** A way with right angles from the end of one node to the beginning of another. */
function bends({ from, to }: GraphEdge, places: Map<string, Point>, direction: Direction): Point[] {
  const [a, b] = [places.get(from) ?? NOWHERE, places.get(to) ?? NOWHERE];
  if (direction === "right") {
    const start = { x: a.x + NODE_WIDTH, y: a.y + NODE_HEIGHT / 2 };
    const end = { x: b.x, y: b.y + NODE_HEIGHT / 2 };
    const middle = end.x - LAYER_GAP / 2;
    return [start, { x: middle, y: start.y }, { x: middle, y: end.y }, end];
  }
  const start = { x: a.x + NODE_WIDTH / 2, y: a.y + NODE_HEIGHT };
  const end = { x: b.x + NODE_WIDTH / 2, y: b.y };
  const middle = end.y - LAYER_GAP / 2;
  return [start, { x: start.x, y: middle }, { x: end.x, y: middle }, end];
}

const RADIUS = 8;

const toward = (from: Point, to: Point, distance: number): Point => {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const share = Math.min(1, distance / length);
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
};

const print = ({ x, y }: Point): string => `${Math.round(x * 10) / 10} ${Math.round(y * 10) / 10}`;

/** The `d` of an SVG path through the bends, with round corners and an arrow's head at the end. */
export function pathOf(points: readonly Point[]): string {
  const [first, ...rest] = points;
  const last = points.at(-1);
  if (!first || !last) return "";
  let path = `M${print(first)}`;
  let before = first;
  for (const [at, point] of rest.entries()) {
    const next = rest[at + 1];
    if (!next) break;
    const half = (one: Point, other: Point) => Math.hypot(other.x - one.x, other.y - one.y) / 2;
    const radius = Math.min(RADIUS, half(before, point), half(point, next));
    path += `L${print(toward(point, before, radius))}Q${print(point)} ${print(toward(point, next, radius))}`;
    before = point;
  }
  const back = toward(last, before, 5);
  const side = { x: (last.y - back.y) * 0.8, y: (back.x - last.x) * 0.8 };
  const [left, right] = [
    { x: back.x + side.x, y: back.y + side.y },
    { x: back.x - side.x, y: back.y - side.y },
  ];
  return `${path}L${print(last)}M${print(left)}L${print(last)}L${print(right)}`;
}

const KEYS = new Map([
  ["ArrowRight", { x: 1, y: 0 }],
  ["ArrowLeft", { x: -1, y: 0 }],
  ["ArrowDown", { x: 0, y: 1 }],
  ["ArrowUp", { x: 0, y: -1 }],
]);

/** The node that an arrow key leads to from another: the nearest one that way; null when there is none. */
export function neighbour(places: Placement["nodes"], from: string, key: string): string | null {
  const way = KEYS.get(key);
  const origin = places.get(from);
  if (!way || !origin) return null;
  let best: string | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const [node, { x, y }] of places) {
    const ahead = (x - origin.x) * way.x + (y - origin.y) * way.y;
    const aside = Math.abs((x - origin.x) * way.y) + Math.abs((y - origin.y) * way.x);
    const distance = ahead + 2 * aside;
    if (node === from || ahead <= 0 || aside > 2 * ahead + NODE_HEIGHT || distance >= least)
      continue;
    best = node;
    least = distance;
  }
  return best;
}
