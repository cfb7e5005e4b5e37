/** Numbers of several rounds. */

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] as number;
  const lower = sorted[sorted.length % 2 === 0 ? middle - 1 : middle] as number;
  return {
    median: (lower + upper) / 2,
    min: sorted[0] as number,
    max: sorted.at(-1) as number,
  };
}

/** What one subject cost in each round; the i-th values of all subjects were measured side by side. */
export type Series = number[];

export const ratio = (one: Series, other: Series): Spread =>
  spread(one.map((value, round) => value / (other[round] as number)));

/** How much y grows with x: least squares. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const sums = points.reduce(
    ([over, under], [x, y]) => [over + (x - meanX) * (y - meanY), under + (x - meanX) ** 2],
    [0, 0],
  );
  return sums[0]! / sums[1]!;
}
