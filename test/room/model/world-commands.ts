import fc from "fast-check";
import { turns } from "../../support/clock.js";
import type { Weather } from "./backend.js";
import { calm, check, closed, reconnect } from "./checks.js";
import { command, node } from "./command.js";
import { word } from "./engine-commands.js";

const nothing = fc.constant(null);

export const restart = command("the store restarts", fc.boolean(), (model, system, told) => {
  const reached = told ? system.nodes.filter(({ link }) => !link.away) : [];
  for (const { link } of reached) link.lose();
  system.restart();
  for (const { link } of reached) link.restore();
  model.saw(told ? "the store restarted" : "the store restarted in silence");
});

/** For good, or until a publisher brings it back, which nobody hears. */
export const vanish = command(
  "the job is gone for long",
  fc.constantFrom(undefined, 65_000, 75_000, 84_000),
  async (model, system, backAfterMs) => {
    system.restart();
    await system.pass(backAfterMs ?? 61_000);
    if (backAfterMs === undefined) return system.pass(45_000);
    for (const { link } of system.nodes) link.change("lost");
    system.publish(0, word(model, "message", 0));
    await turns(10);
    for (const { link } of system.nodes) link.change("fair");
    await system.pass(30_000);
    model.saw("a job came back unheard");
  },
);

export const weather = command(
  "weather",
  fc.tuple(node, fc.constantFrom<Weather[]>("fair", "lost", "twice", "late")),
  (model, system, [at, kind]) => {
    if (kind === "lost" || kind === "late") model.node(at).muddled = true;
    system.node(at).link.change(kind);
    model.saw(`announcements: ${kind}`);
  },
);

/** An append may be on its way, or another node says something meanwhile. */
export const lose = command(
  "the connection to the store is lost",
  fc.tuple(node, fc.constantFrom("before", "meanwhile"), fc.nat(4)),
  async (model, system, [at, when, count]) => {
    if (when === "before") system.publish(at, word(model, "message", 0));
    await turns(count);
    model.node(at).away = true;
    model.node(at).muddled = true;
    system.node(at).link.lose();
    if (when === "meanwhile") system.publish(at === 0 ? 1 : 0, word(model, "message", 0));
  },
);

export const restore = command(
  "the connection to the store is back",
  node,
  (model, system, at) => reconnect(model, system.node(at)),
  (model, at) => model.node(at).away,
);

export const pass = command(
  "time passes",
  fc.constantFrom(50, 250, 1_000, 5_001, 5_001, 30_000, 61_000),
  (_, system, ms) => system.pass(ms),
);

/** In one go: what falls due in that time runs without a turn between. */
export const leap = command("time leaps", fc.constantFrom(250, 2_000, 45_000), (_, system, ms) => {
  system.clock.advance(ms);
});

export const rest = command("rest", nothing, async (model, system) => {
  await calm(model, system);
  await check(model, system);
  model.saw("rested");
});

export const close = command(
  "a node closes",
  nothing,
  async (model, system) => {
    const going = system.node(1);
    reconnect(model, going);
    if (model.open().some((each) => each.node.index === 1)) model.saw("a node with viewers closed");
    system.close(1);
    await closed(model, system, going);
  },
  (model) => !model.node(1).closing,
);
