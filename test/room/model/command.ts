import fc from "fast-check";
import { turns } from "../../support/clock.js";
import type { Model, NodeIndex } from "./model.js";
import type { System } from "./system.js";

export type ModelCommand = fc.AsyncCommand<Model, System>;

/** A command; a few turns of the event loop may pass after it, or none. */
export function command<P>(
  name: string,
  params: fc.Arbitrary<P>,
  run: (model: Model, system: System, params: P) => void | Promise<void>,
  when: (model: Readonly<Model>, params: P) => boolean = () => true,
  mostTurns = 3,
): fc.Arbitrary<ModelCommand> {
  return fc.tuple(params, fc.nat(mostTurns)).map(([given, count]) => ({
    check: (model) => when(model, given),
    async run(model, system) {
      if (betweenTurns(model)) model.saw(`${name} between turns`);
      await run(model, system, given);
      await turns(count);
      model.assertSound();
    },
    toString: () => `${name}(${fc.stringify(given)}, ${count} turns)`,
  }));
}

/** Some of the crowd have had the head, and others, who could take it, have not. */
export function betweenTurns({ crowd, log }: Model): boolean {
  const ready = crowd?.all.filter(({ writable, ends }) => writable && ends.length === 0) ?? [];
  const first = log.isHead(ready[0]?.cursor ?? null);
  return ready.some(({ cursor }) => log.isHead(cursor ?? null) !== first);
}

export const node = fc.constantFrom(0, 0, 0, 1 as const) as fc.Arbitrary<NodeIndex>;
export const which = fc.nat(99);
export const pick = <T>(all: readonly T[], at: number): T | undefined => all[at % all.length];
