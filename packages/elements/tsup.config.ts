import { defineConfig } from "tsup";
import { base } from "../../tsup.base";

export default defineConfig({
  ...base,
  format: ["esm"], // as Lit is, and what pages load
  entry: { index: "src/index.ts", "layout-worker": "src/layout-worker.ts" },
});
