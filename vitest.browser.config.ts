import { defineConfig } from "vitest/config";
import { base } from "./vitest.config.js";

// Tests in a real browser: not a part of `npm test`, which needs none.
export default defineConfig({
  ...base,
  test: { ...base.test, include: ["test/browser/*.ts"], testTimeout: 60_000 },
});
