import type { Spread } from "../stats.js";
import type { Measured } from "./cases.js";
import { costsOf, type UnitCosts } from "./model.js";

/** Clusters that are as busy, and differ in one thing. */
export interface Calibration {
  /** No node; the same with many who hear each announcement. */
  none: Measured;
  heard: Measured;
  /** One node, with few viewers and with many. */
  few: Measured;
  many: Measured;
}

/** What one of each costs. */
export function calibrate({ none, heard, few, many }: Calibration): UnitCosts {
  const appends = none.load.jobs * none.load.rate;
  const messages = appends * heard.listeners;
  const redisCpu = ({ redis, idle }: Measured) => redis.cpu.median - idle.redis;
  const nodeCpu = ({ nodeCpu, idle }: Measured) => nodeCpu.median - idle.nodes;
  const deliveries = ({ load }: Measured) => load.viewers * load.rate;
  const delivery = (nodeCpu(many) - nodeCpu(few)) / (deliveries(many) - deliveries(few));
  return {
    stored: none.redisMemory,
    append: {
      cpu: redisCpu(none) / appends,
      bytesIn: none.redis.bytesIn.median / appends,
      bytesOut: none.redis.bytesOut.median / appends,
    },
    message: {
      cpu: (redisCpu(heard) - redisCpu(none)) / messages,
      bytesOut: (heard.redis.bytesOut.median - none.redis.bytesOut.median) / messages,
    },
    heard: { cpu: (nodeCpu(many) - deliveries(many) * delivery) / appends },
    delivery: { cpu: delivery, bytes: many.frameBytes },
    viewer: { memory: many.viewerMemory },
  };
}

/** Half of each: what is measured before and after the rest is less of an accident. */
export function meanOf(one: UnitCosts, other: UnitCosts): UnitCosts {
  const mean = (a: object, b: object): object =>
    Object.fromEntries(
      Object.entries(a).map(([key, value]) => {
        const also: unknown = b[key as keyof typeof b];
        return [
          key,
          typeof value === "number" ? (value + Number(also)) / 2 : mean(value, also as object),
        ];
      }),
    );
  return mean(one, other) as UnitCosts;
}

/** A figure that the model says, and that was measured. */
export interface Compared {
  what: string;
  unit: string;
  model: number;
  measured: Spread;
}

const exactly = (value: number): Spread => ({ median: value, min: value, max: value });

export function compare(one: Measured, unit: UnitCosts): Compared[] {
  const { redis, nodes, scripts } = costsOf(one.load, unit);
  const KB = 1_000;
  const scaled = ({ median, min, max }: Spread, by: number, less = 0): Spread => ({
    median: (median - less) * by,
    min: (min - less) * by,
    max: (max - less) * by,
  });
  const { idle } = one;
  const deliveries = one.load.viewers * one.load.rate;
  return [
    { what: "Redis: script calls", unit: "/s", model: scripts, measured: one.redis.scripts },
    {
      ...{ what: "Redis: bytes in", unit: "kB/s" },
      ...{ model: redis.bytesIn / KB, measured: scaled(one.redis.bytesIn, 1 / KB) },
    },
    {
      ...{ what: "Redis: bytes out", unit: "kB/s" },
      ...{ model: redis.bytesOut / KB, measured: scaled(one.redis.bytesOut, 1 / KB) },
    },
    {
      ...{ what: "Redis: CPU", unit: "% of a core" },
      ...{ model: redis.cpu * 100, measured: scaled(one.redis.cpu, 100, idle.redis) },
    },
    {
      ...{ what: "Redis: connections", unit: "" },
      ...{ model: redis.connections, measured: exactly(one.connections) },
    },
    {
      ...{ what: "all nodes: CPU", unit: "% of a core" },
      ...{ model: nodes.cpu * 100, measured: scaled(one.nodeCpu, 100, idle.nodes) },
    },
    {
      ...{ what: "all nodes: CPU per delivery", unit: "µs" },
      ...{
        model: (nodes.cpu / deliveries) * 1e6,
        measured: scaled(one.nodeCpu, 1e6 / deliveries, idle.nodes),
      },
    },
    {
      ...{ what: "a viewer: heap and buffers", unit: "KiB" },
      ...{ model: unit.viewer.memory / 1_024, measured: exactly(one.viewerMemory / 1_024) },
    },
  ];
}
