import { defineConfig } from "tsup";
import { base } from "../../tsup.base";

export default defineConfig({
  ...base,
  entry: {
    index: "src/index.ts",
    protocol: "src/protocol-entry.ts",
    testing: "src/testing/index.ts",
  },
  // typed-emitter is types only: inlined, so that users do not need it installed.
  dts: { compilerOptions: { ignoreDeprecations: "6.0" }, resolve: ["typed-emitter"] },
});
