import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startRedis, withoutRedis } from "../support/redis.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, "packages", "bullmq-source");
const readme = readFileSync(join(folder, "README.md"), "utf8");

test("the README names every option", () => {
  const source = readFileSync(join(folder, "src", "options.ts"), "utf8");
  const body = source.slice(source.indexOf("export interface BullmqSourceOptions")).split("\n}")[0];
  const options = [...(body ?? "").matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name);
  expect(options.length).toBeGreaterThan(8);
  for (const option of options) expect(readme).toMatch(new RegExp(`\\| \`${option}[\`(]`));
});

test.skipIf(withoutRedis)(
  "the README's example runs a flow to its end, and ends",
  async () => {
    const redis = await startRedis();
    const place = mkdtempSync(join(root, "test", "bullmq", "example-"));
    try {
      const code = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? "";
      expect(code).toContain("port: 6379");
      const file = join(place, "example.ts");
      writeFileSync(file, code.replace("6379", `${redis.port}`));
      const run = promisify(execFile)("npx", ["tsx", file], { cwd: root, timeout: 30_000 });
      expect((await run).stdout).toMatch(/status: 'completed'/);
    } finally {
      rmSync(place, { recursive: true });
      await redis.close();
    }
  },
  40_000,
);
