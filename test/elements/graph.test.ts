import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { graphModel, isSameGraph, layersOf } from "../../packages/elements/src/graph-model.js";
import {
  grid,
  neighbour,
  parts,
  pathOf,
  quickPlacement,
  withLoose,
} from "../../packages/elements/src/placement.js";
import { looseJob, runningJob, tangledJob } from "../support/jobs.js";

const planned = (stages: Record<string, string[]>) =>
  Object.entries(stages).map(([stage, dependsOn]) => ({ stage, dependsOn }));
const edgesOf = (stages: Record<string, string[]>) =>
  graphModel(planned(stages)).edges.map(
    ({ from, to, back }) => `${from} ${back ? "⇠" : "→"} ${to}`,
  );

describe("the graph of a plan", () => {
  test("leaves out unknown stages, repetitions and stages that wait for themselves", () => {
    expect(edgesOf({ a: ["nobody"], b: ["a", "a"], c: ["c", "b"] })).toEqual(["a → b", "b → c"]);
  });

  test("marks the edge that closes a cycle", () => {
    expect(edgesOf({ a: ["c"], b: ["a"], c: ["b"] })).toEqual(["c ⇠ a", "a → b", "b → c"]);
  });

  test("has layers in which every stage comes after what it waits for", () => {
    const model = graphModel(runningJob().stages);
    expect(layersOf(model).map((layer) => layer.toSorted())).toEqual([
      ["fetch"],
      ["build", "docs", "lint"],
      ["browser", "unit"],
      ["approve"],
      ["deploy"],
      ["notify"],
    ]);
  });

  test("takes a chain of thousands", () => {
    const names = Array.from({ length: 5_000 }, (_, at) => `s${at}`);
    const chain = names.map((stage, at) => ({ stage, dependsOn: names.slice(at - 1, at) }));
    expect(layersOf(graphModel(chain))).toHaveLength(5_000);
  });

  test("is the same while neither stages nor edges change, whatever else does", () => {
    const [one, other] = [runningJob().stages, runningJob().stages];
    expect(isSameGraph(one, other)).toBe(true);
    expect(isSameGraph(one, one.with(3, { ...one[3]!, status: "completed" }))).toBe(true);
    expect(isSameGraph(one, one.with(3, { ...one[3]!, dependsOn: ["lint"] }))).toBe(false);
    expect(isSameGraph(one, one.slice(1))).toBe(false);
    expect(isSameGraph(one, one.toReversed())).toBe(false);
  });

  test("whatever depends on whatever, every stage gets a place of its own and every edge a way", () => {
    const name = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "__proto__");
    const stages = fc.uniqueArray(fc.record({ stage: name, dependsOn: fc.array(name) }), {
      selector: ({ stage }) => stage,
    });
    fc.assert(
      fc.property(stages, fc.constantFrom("right", "down"), (all, direction) => {
        const model = graphModel(all);
        const { connected, loose } = parts(model);
        const placed = withLoose(quickPlacement(connected, direction), loose, 600);
        expect([...placed.nodes.keys()].sort()).toEqual([...model.nodes].sort());
        const places = [...placed.nodes.values()].map(({ x, y }) => `${x},${y}`);
        expect(new Set(places).size).toBe(places.length);
        for (const { id } of model.edges) {
          expect(pathOf(placed.edges.get(id) ?? [])).toMatch(/^M[\d. -]+(L|Q)/);
        }
      }),
    );
  });
});

describe("placement", () => {
  test("stages that nothing connects stand in reading order, as many in a row as fit", () => {
    const names = looseJob().stages.map(({ stage }) => stage);
    const { nodes, width } = grid(names, 650);
    expect(width).toBeLessThanOrEqual(650);
    const rows = [0, 1, 2].map((row) =>
      [...nodes].filter(([, { y }]) => y === 12 + row * 76).map(([stage]) => stage),
    );
    expect(rows).toEqual([names.slice(0, 3), names.slice(3, 6), names.slice(6)]);
  });

  test("a place narrower than a stage has one column", () => {
    expect(new Set([...grid(["a", "b"], 50).nodes.values()].map(({ x }) => x)).size).toBe(1);
  });

  test("arrow keys lead to the nearest stage that way", () => {
    const { nodes } = quickPlacement(graphModel(runningJob().stages), "right");
    expect(neighbour(nodes, "approve", "ArrowRight")).toBe("deploy");
    expect(neighbour(nodes, "approve", "ArrowDown")).toBeNull();
    expect(neighbour(nodes, "unit", "ArrowDown")).toBe("browser");
    expect(neighbour(nodes, "browser", "ArrowUp")).toBe("unit");
    expect(neighbour(nodes, "fetch", "ArrowLeft")).toBeNull();
    expect(neighbour(nodes, "fetch", "a")).toBeNull();
  });

  test("a tangle has all of its stages", () => {
    const { nodes, edges } = quickPlacement(graphModel(tangledJob().stages), "down");
    expect([nodes.size, edges.size]).toEqual([4, 4]);
  });
});
