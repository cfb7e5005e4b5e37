import type { Options } from "tsup";

/** What every package builds alike: ESM and CJS, each with its own types, for Node 20. */
export const base: Options = {
  format: ["esm", "cjs"],
  target: "node20",
  tsconfig: "../../tsconfig.json",
  sourcemap: true,
  clean: true,
  splitting: true, // entries of one package share one copy of its code
  dts: { compilerOptions: { ignoreDeprecations: "6.0" } },
};
