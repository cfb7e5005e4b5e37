import { defineConfig } from "vitest/config";

/** `npm run soak:cluster`: CLUSTER_SECONDS (default 300), CLUSTER_SEED. */
export default defineConfig({
  resolve: { tsconfigPaths: true },
  test: { include: ["test/cluster/cluster.ts"] },
});
