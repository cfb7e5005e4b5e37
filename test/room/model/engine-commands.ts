import type { PublishedEvent } from "@org/workflow-monitor";
import fc from "fast-check";
import { turns } from "../../support/clock.js";
import { range } from "../../support/frames.js";
import { betweenTurns, command, node, pick } from "./command.js";
import { JOB, type Model, type NodeIndex } from "./model.js";
import type { System } from "./system.js";

const WORDS = ["message", "stage", "progress", "same", "id", "again", "labels"] as const;

export function word(model: Model, kind: (typeof WORDS)[number], chance: number): PublishedEvent {
  model.said += 1;
  const { said } = model;
  const stage = `s${chance % 4}`;
  switch (kind) {
    case "message":
      return { type: "job", jobId: JOB, message: `m${said}` };
    case "stage":
      return { type: "stage", jobId: JOB, stage, status: "running", message: `m${said}` };
    case "progress":
      return { type: "stage", jobId: JOB, stage: `p${Math.floor(said / 90)}`, progress: said % 90 };
    case "labels":
      return { type: "job", jobId: JOB, labels: { said: `${said}` } };
    case "same":
      return { type: "job", jobId: JOB };
    case "id":
      model.ids.push(`e${said}`);
      return { type: "job", jobId: JOB, id: `e${said}`, message: `m${said}` };
    case "again":
      return { type: "job", jobId: JOB, id: pick(model.ids, chance) ?? "e", message: `m${said}` };
  }
}

export const say = command(
  "say",
  fc.tuple(node, fc.constantFrom(...WORDS), fc.nat(99)),
  (model, system, [at, kind, chance]) => system.publish(at, word(model, kind, chance)),
);

const SIZES = ["progress", "small", "large", "huge"] as const;

/** Much in one turn: of progress, of small events, of large ones, or of a job that is large. */
export function sayMuch(
  model: Model,
  system: System,
  at: NodeIndex,
  size: (typeof SIZES)[number],
  count: number,
): void {
  for (const _ of range(1, count)) {
    const event = word(model, size === "progress" ? size : "message", 0);
    const text = size === "large" || size === "huge" ? ` ${"x".repeat(480)}` : "";
    const metadata = size === "huge" ? { text: "x".repeat(6_000) } : null;
    const more = size === "progress" ? {} : { message: `m${model.said}${text}`, metadata };
    system.publish(at, { ...event, ...more });
  }
}

export const burst = command(
  "burst",
  fc.tuple(node, fc.constantFrom(...SIZES), fc.integer({ min: 2, max: 40 })),
  (model, system, [at, size, count]) => sayMuch(model, system, at, size, count),
);

/** A job of more than 64 KiB. */
export const grow = command("grow", node, (model, system, at) => {
  model.said += 1;
  const metadata = { text: `${model.said} ${"x".repeat(3_900)}` };
  for (const n of range(1, 18)) {
    system.publish(at, { type: "stage", jobId: JOB, stage: `big ${n}`, metadata });
  }
});

export const end = command(
  "end",
  fc.tuple(node, fc.constantFrom("completed", "failed", "cancelled")),
  (_, system, [at, status]) => system.publish(at, { type: "job", jobId: JOB, status }),
);

export const again = command("again", node, (model, system, at) => {
  model.run += 1;
  system.publish(at, { type: "job", jobId: JOB, run: model.run, status: "running" });
});

export const throwOnce = command(
  "present throws",
  node,
  (model, system, at) => {
    system.node(at).armed = true;
    system.publish(at, word(model, "message", 0));
  },
  ({ config }) => config.present,
);

/** What comes next comes while some of the crowd have had their turn, and others have not. */
export const sayToSome = command(
  "say to some",
  fc.constantFrom("message", "stage", "labels"),
  async (model, system, kind) => {
    system.publish(0, word(model, kind, 0));
    for (let turn = 0; turn < 10 && !betweenTurns(model); turn++) await turns(1);
  },
  undefined,
  0,
);
