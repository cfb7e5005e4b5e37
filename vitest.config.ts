import { fileURLToPath } from "node:url";
import { defineConfig, type ViteUserConfig } from "vitest/config";

/** What the other configurations begin with. */
export const base = {
  // The same tests run on source (through tsconfig's `paths`) and, with TEST_DIST=1, on the build
  // (through the workspace links in node_modules).
  resolve: { tsconfigPaths: !process.env.TEST_DIST },
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    pool: "threads", // they start faster than processes, and a file is short
    maxWorkers: 4, // most of what they do is wait for sockets
    coverage: { include: ["packages/*/src/**/*.ts"] },
  },
} satisfies ViteUserConfig;

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export default defineConfig({
  test: {
    ...base.test,
    projects: [
      {
        resolve: base.resolve,
        test: { name: "all", include: base.test.include, env: { REACT: "19" } },
      },
      {
        resolve: {
          ...base.resolve,
          alias: {
            react: path("test/react-18/node_modules/react"),
            "react-dom": path("test/react-18/node_modules/react-dom"),
            // Its ES module, inlined: else it brings its own React.
            "@testing-library/react": path(
              "node_modules/@testing-library/react/dist/@testing-library/react.esm.js",
            ),
          },
        },
        test: {
          name: "react-18",
          include: ["test/client/react*.test.tsx"],
          env: { REACT: "18" },
          server: { deps: { inline: ["@testing-library/react"] } },
        },
      },
    ],
  },
});
