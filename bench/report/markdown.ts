import { ratio, type Series, type Spread, spread } from "../stats.js";

/** Tables of figures as Markdown. */

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(header), row(header.map(() => "---")), ...rows.map(row)].join("\n");
}

/** What a figure should be; `later`: what it should be one day. */
export type Goal = ({ most: number } | { least: number }) & { later?: number };

/** A row of the table of comparisons: what, figure, least–most, goal, met? */
type Comparison = readonly [string, string, string, string, string];

/** What one measurement adds to the report: its table, and its rows among the comparisons. */
export interface Section {
  table: string;
  comparisons: Comparison[];
}

/** Two subjects, within each round; the median of the rounds. */
export function compared(what: string, one: Series, other: Series, goal?: Goal): Comparison {
  return judged(what, ratio(one, other), goal);
}

/** One figure of several rounds. */
export function measured(what: string, series: Series, unit: string, goal?: Goal): Comparison {
  return judged(what, spread(series), goal, unit);
}

function judged(what: string, { median, min, max }: Spread, goal?: Goal, unit = ""): Comparison {
  const figure = `${median.toFixed(2)}${unit}`;
  const range = `${min.toFixed(2)}–${max.toFixed(2)}`;
  if (!goal) return [what, figure, range, "", ""];
  const most = "most" in goal;
  const met = most ? median <= goal.most : median >= goal.least;
  const later = goal.later === undefined ? "" : `, then ${goal.later}`;
  const wanted = `${most ? `≤ ${goal.most}` : `≥ ${goal.least}`}${unit}${later}`;
  return [what, figure, range, wanted, met ? "met" : "**missed**"];
}
