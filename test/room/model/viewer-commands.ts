import { type Cursor, parseCursor, type Service } from "@org/workflow-monitor";
import fc from "fast-check";
import { turns } from "../../support/clock.js";
import { range } from "../../support/frames.js";
import { CODECS } from "./codecs.js";
import { command, type ModelCommand, node, pick, which } from "./command.js";
import { Connection, type Viewer } from "./connection.js";
import { sayMuch, word } from "./engine-commands.js";
import { JOB, type Model } from "./model.js";
import type { System } from "./system.js";

const AFTERS = [
  "none",
  "head",
  "old",
  "older",
  "origin",
  "ahead",
  "former",
  "foreign",
  "garbage",
] as const;

const GARBAGE = ["", "x", "aaaaaaaaaaaa", "aaaaaaaaaaaa.-1", "aaaaaaaaaaaa.1e3", "a.1", "…", "0.0"];

function cursorFor({ log }: Model, kind: (typeof AFTERS)[number], chance: number): Cursor | null {
  const { head } = log;
  if (!head || kind === "none") return null;
  switch (kind) {
    case "head":
      return head;
    case "old":
      return { ...head, revision: Math.max(0, head.revision - 1 - (chance % 5)) };
    case "older":
      return { ...head, revision: Math.floor((head.revision * chance) / 100) };
    case "origin":
      return { ...head, revision: 0 };
    case "ahead":
      return { ...head, revision: head.revision + 1 + (chance % 5) };
    case "former":
      return log.former ?? null;
    case "foreign":
      return { epoch: "aaaaaaaaaaaa", revision: chance };
    case "garbage":
      return parseCursor(pick(GARBAGE, chance)) ?? null;
  }
}

const how = fc.record({
  node,
  mode: fc.constantFrom<Service[]>("full", "full", "delta", "delta", "poll", "long-poll"),
  sse: fc.boolean(),
  codec: fc.nat(CODECS.length - 1),
  line: fc.constantFrom("switch", "sink"),
  paused: fc.constantFrom(...range(1, 9).map(() => false), true),
});
type How = typeof how extends fc.Arbitrary<infer T> ? T : never;

function connect(
  model: Model,
  system: System,
  viewer: Viewer,
  brings: { after: Cursor | null; madeUp: boolean; atLeast?: Cursor | undefined },
  { node: at, mode, sse, codec, line, paused }: How,
): void {
  const state = model.node(at);
  const { rooms } = system.node(at).monitor.stats();
  const alone = !model.crowd && !model.open().some((each) => each.node === state);
  if (rooms === 1 && alone && model.now() > state.leftAt) model.saw("a room lingered");
  const transport = mode === "poll" || mode === "long-poll" ? mode : sse ? "sse" : "ws";
  const connection = new Connection(model, {
    ...{ viewer, node: state, mode, transport, ...brings },
    codec: CODECS[model.crowd ? 0 : codec] ?? CODECS[0], // that of the crowd
  });
  system.join(connection, brings.after, line);
  if (paused) connection.pause();
}

const MOST_OPEN = 12;

function newViewer(model: Model): Viewer {
  const viewer = { name: `v${model.viewers.length + 1}`, cursor: null, connection: undefined };
  model.viewers.push(viewer);
  return viewer;
}

export const join = command(
  "join",
  fc.tuple(fc.constantFrom(...AFTERS), fc.nat(99), how),
  (model, system, [kind, chance, given]) => {
    const after = cursorFor(model, kind, chance);
    const madeUp = kind === "ahead" || kind === "foreign" || kind === "former";
    connect(model, system, newViewer(model), { after, madeUp }, given);
  },
  (model) => model.open().length < MOST_OPEN,
);

/** The rooms of the last run are gone, and the next run begins while viewers come. */
export const cross = command(
  "a run begins while viewers come",
  fc.tuple(node, how, fc.nat(8), how, fc.nat(2)),
  async (model, system, [at, one, before, other, after]) => {
    await system.pass(5_001);
    const { monitor, model: state } = system.node(one.node);
    const fresh = monitor.stats().rooms === 0 && !state.muddled;
    const brings = { after: null, madeUp: false };
    connect(model, system, newViewer(model), brings, one);
    await turns(before);
    model.run += 1;
    system.publish(at, { type: "job", jobId: JOB, run: model.run, status: "running" });
    for (let turn = 0; turn < 40 && model.log.done; turn++) await turns(1);
    await turns(after);
    // An answer that was on its way before is none to who comes now.
    const atLeast = fresh ? model.log.head : undefined;
    const same = { ...other, node: one.node };
    connect(model, system, newViewer(model), { ...brings, atLeast }, same);
    if (fresh) model.saw("a run began while viewers came");
  },
  ({ log }) => log.done,
);

const gone = (model: Readonly<Model>) => model.viewers.filter((each) => !each.connection?.open);

export const comeBack = command(
  "come back",
  fc.tuple(which, how),
  (model, system, [at, given]) => {
    const viewer = pick(gone(model), at);
    if (!viewer) return;
    if (viewer.connection?.node.index !== given.node) model.saw("came back to another node");
    connect(model, system, viewer, { after: viewer.cursor, madeUp: false }, given);
  },
  (model) => gone(model).length > 0 && model.open().length < MOST_OPEN,
);

/** Something that happens to one of the open connections that are fit for it. */
const toOne = (
  name: string,
  fits: (connection: Connection) => boolean,
  run: (connection: Connection, model: Model) => void,
): fc.Arbitrary<ModelCommand> =>
  command(
    name,
    which,
    (model, _, at) => {
      const connection = pick(model.open().filter(fits), at);
      if (connection) run(connection, model);
    },
    (model) => model.open().some(fits),
  );

export const pause = toOne(
  "pause",
  ({ line }) => !line.paused,
  (connection) => connection.pause(),
);
export const resume = toOne(
  "resume",
  ({ line }) => line.paused,
  (connection) => connection.resume(),
);
export const drain = toOne(
  "drain a little",
  ({ line }) => line.waitsSince !== undefined,
  ({ line }, model) => {
    line.drain(700);
    model.saw("drained a little");
  },
);
export const cut = toOne(
  "cut",
  () => true,
  (connection) => connection.cut(),
);
export const doom = toOne(
  "doom",
  ({ seat }) => seat !== undefined,
  (connection, model) => {
    const others = model.open().filter(({ seat, node }) => seat && node === connection.node);
    connection.doomed = others.filter((_, at) => at % 2 === 1);
  },
);

/** A viewer knows more than the node that it comes to, whose store may have lost it all. */
export const lag = command(
  "a viewer comes to a node that lags",
  fc.tuple(how, fc.constantFrom("little", "much", "all")),
  async (model, system, [given, lost]) => {
    const { link, model: state } = system.node(given.node);
    state.muddled = true;
    link.change("lost");
    if (lost === "much") sayMuch(model, system, 0, "large", 30);
    else system.publish(0, word(model, "message", 0));
    await turns(10);
    link.change("fair");
    const after = model.log.head ?? null;
    if (lost === "all") system.restart();
    connect(model, system, newViewer(model), { after, madeUp: false }, given);
    model.saw("a viewer came to a node that lagged");
  },
  (model) => model.open().length < MOST_OPEN,
);

/** Every so manieth of the crowd. */
export const crowd = command(
  "the crowd",
  fc.tuple(fc.constantFrom("pauses", "drains"), fc.integer({ min: 1, max: 5 })),
  (model, _, [what, every]) => {
    model.crowd?.all.forEach((onlooker, at) => {
      if (at % every !== 0) return;
      if (what === "pauses") onlooker.writable = false;
      else onlooker.drain();
    });
    model.saw(`the crowd ${what}`);
  },
);
