import type { Took } from "./rest.js";

/** A run in numbers: the same lines in the same order each time. */
export function report(
  lines: Record<string, string | number | Record<string, string | number>>,
): string {
  const print = (value: (typeof lines)[string]): string =>
    typeof value === "object"
      ? Object.entries(value)
          .map(([name, each]) => `${name} ${each}`)
          .join(", ")
      : `${value}`;
  return Object.entries(lines)
    .map(([name, value]) => `cluster: ${name}: ${print(value)}`)
    .join("\n");
}

/** Of some durations, in milliseconds: the middle one and the longest. */
export function spread(took: readonly Took[]): Record<string, string | number> {
  const sorted = [...took].sort((one, other) => one.ms - other.ms);
  const middle = sorted[Math.floor(sorted.length / 2)];
  const longest = sorted.at(-1);
  return {
    times: took.length,
    "median ms": Math.round(middle?.ms ?? 0),
    "longest ms": Math.round(longest?.ms ?? 0),
    "longest after": longest?.after ?? "",
    "when at last": longest?.last ?? "",
  };
}
