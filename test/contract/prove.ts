import { expect } from "vitest";

interface Result {
  name: string;
  failure: unknown;
}

/** Runs a kit without a runner: what each of its tests came to. */
export async function results(
  kit: (test: (name: string, run: () => Promise<void>) => void) => void,
) {
  const tests: { name: string; run: () => Promise<void> }[] = [];
  kit((name, run) => tests.push({ name, run }));
  const all: Result[] = [];
  for (const { name, run } of tests) {
    const failure = await run().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    all.push({ name, failure });
  }
  return all;
}

/** The kit finds the fault: the test of this name fails (others may, too). */
export function expectFault(all: Result[], name: string): void {
  const result = all.find((candidate) => candidate.name === name);
  expect(result, `the kit has no test "${name}"`).toBeDefined();
  expect(result?.failure, `"${name}" passed in spite of the fault`).toBeInstanceOf(Error);
}
