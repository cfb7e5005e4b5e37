import { defineConfig } from "tsup";
import { base } from "../../tsup.base";

export default defineConfig({
  ...base,
  entry: { index: "src/index.ts", react: "src/react/index.ts" },
  // The wire's types and `applyPatch` are bundled: who watches need not install the server.
  noExternal: ["@org/workflow-monitor/protocol"],
  dts: {
    compilerOptions: {
      ignoreDeprecations: "6.0",
      paths: { "@org/workflow-monitor/protocol": ["../core/src/protocol-entry.ts"] },
    },
  },
  splitting: false, // the entries share types only; splitting would put code before "use client"
});
