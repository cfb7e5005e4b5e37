import { defineConfig } from "vitest/config";
import { base } from "./vitest.config.js";

// What mutants of the reducer and of the rooms are tried with: the tests that need no socket.
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: ["test/core/{reduce,progress}.test.ts", "test/room/*.test.ts"],
  },
});
