import { defineConfig } from "vitest/config";

/** `npm run soak`: SOAK_SECONDS (default 600), SOAK_SEED. */
export default defineConfig({
  resolve: { tsconfigPaths: true },
  test: { include: ["test/soak/soak.ts"] },
});
