import type fc from "fast-check";
import { range } from "../../support/frames.js";
import type { ModelCommand } from "./command.js";
import { again, burst, end, grow, say, sayToSome, throwOnce } from "./engine-commands.js";
import {
  comeBack,
  cross,
  crowd,
  cut,
  doom,
  drain,
  join,
  lag,
  pause,
  resume,
} from "./viewer-commands.js";
import {
  close,
  leap,
  lose,
  pass,
  rest,
  restart,
  restore,
  vanish,
  weather,
} from "./world-commands.js";

/** How often each is among the others. */
const weighted: [number, fc.Arbitrary<ModelCommand>][] = [
  [12, say],
  [6, burst],
  [2, grow],
  [4, end],
  [4, again],
  [4, throwOnce],
  [20, join],
  [4, cross],
  [8, comeBack],
  [8, pause],
  [6, resume],
  [4, drain],
  [3, cut],
  [2, doom],
  [2, restart],
  [2, vanish],
  [2, lag],
  [4, weather],
  [2, lose],
  [1, restore],
  [5, pass],
  [1, leap],
  [7, rest],
  [1, close],
];

/** What matters while some members of a room have had their turn, and others have not. */
const crowded: [number, fc.Arbitrary<ModelCommand>][] = [
  [4, say],
  [8, sayToSome],
  [3, burst],
  [1, grow],
  [1, end],
  [1, again],
  [8, join],
  [4, pause],
  [4, resume],
  [2, cut],
  [4, crowd],
  [1, pass],
  [1, rest],
];

/** Each as often as its weight says. */
const byWeight = (all: typeof weighted): fc.Arbitrary<ModelCommand>[] =>
  all.flatMap(([weight, each]) => range(1, weight).map(() => each));

export const allCommands = byWeight(weighted);
export const crowdedCommands = byWeight(crowded);
