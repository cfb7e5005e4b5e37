import { defineConfig } from "vitest/config";

// The same tests run on source (through tsconfig's `paths`) and, with TEST_DIST=1, on the build
// (through the workspace links in node_modules).
export default defineConfig({
  resolve: { tsconfigPaths: !process.env.TEST_DIST },
  test: {
    include: ["test/**/*.test.ts"],
    maxWorkers: 4, // most of what they do is wait for sockets
    coverage: { include: ["packages/*/src/**/*.ts"] },
  },
});
