import { defineConfig } from "vitest/config";

// The same tests run on source (through tsconfig's `paths`) and, with TEST_DIST=1, on the build
// (through the workspace links in node_modules).
export default defineConfig({
  resolve: { tsconfigPaths: !process.env.TEST_DIST },
  test: {
    include: ["test/**/*.test.ts"],
    coverage: { include: ["packages/*/src/**/*.ts"] },
  },
});
