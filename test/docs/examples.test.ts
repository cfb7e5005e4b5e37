import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** In the project's tree, so that the packages' names lead to their sources. */
async function run(code: string): Promise<string> {
  const folder = mkdtempSync(join(root, "test", "docs", "example-"));
  try {
    const file = join(folder, "example.ts");
    writeFileSync(file, code);
    const { stdout } = await promisify(execFile)("npx", ["tsx", file], {
      cwd: root,
      timeout: 30_000,
    });
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test.each(["core", "ws-adapter", "http-adapter"])(
  "the example in the README of %s runs, and ends",
  { timeout: 60_000 },
  async (name) => {
    const readme = readFileSync(join(root, "packages", name, "README.md"), "utf8");
    const code = /```ts\n(.*?)```/s.exec(readme)?.[1];
    expect(code).toBeDefined();
    const output = await run(code as string);
    const prints = { core: "snapshot\nend\n", "ws-adapter": "", "http-adapter": "running\n" };
    expect(output).toBe(prints[name as keyof typeof prints]);
  },
);
