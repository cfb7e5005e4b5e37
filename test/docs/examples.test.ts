import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startServer } from "../support/server.js";

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

/** The first example in the README of a package. */
function exampleOf(name: string): string {
  const readme = readFileSync(join(root, "packages", name, "README.md"), "utf8");
  const [, code] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  if (!code) throw new Error(`the README of ${name} has no example`);
  return code;
}

test.each(["core", "ws-adapter", "http-adapter"])(
  "the example in the README of %s runs, and ends",
  { timeout: 60_000 },
  async (name) => {
    const output = await run(exampleOf(name));
    const prints = { core: "snapshot\nend\n", "ws-adapter": "", "http-adapter": "running\n" };
    expect(output).toBe(prints[name as keyof typeof prints]);
  },
);

test("the example in the README of client watches a job to its end", {
  timeout: 60_000,
}, async () => {
  const { port, monitor } = await startServer();
  const jobId = "42";
  await monitor.publish({ type: "plan", jobId, stages: [{ stage: "build" }, { stage: "test" }] });
  await monitor.publish({ type: "stage", jobId, stage: "build", status: "running" });
  monitor.on("join", () => void monitor.publish({ type: "job", jobId, status: "completed" }));
  const code = exampleOf("client").replace("http://localhost:3000", `http://127.0.0.1:${port}`);
  expect(await run(code)).toMatch(/^(running build 0 %\n)?completed null 100 %\n$/);
});

test("the commands in the README of cli watch a job to its end, and list it", {
  timeout: 60_000,
}, async () => {
  const { port, monitor } = await startServer();
  await monitor.publish({ type: "plan", jobId: "42", name: "Release 7", stages: [] });
  monitor.on("join", () => void monitor.publish({ type: "job", jobId: "42", status: "completed" }));
  const readme = readFileSync(join(root, "packages", "cli", "README.md"), "utf8");
  const [, block = ""] = /```sh\n(.*?)```/s.exec(readme) ?? [];
  const commands = block.split("\n").filter((line) => line.startsWith("npx "));
  expect(commands).toHaveLength(3);
  for (const command of commands) {
    const here = command
      .replace(
        "npx -p @org/workflow-monitor-cli workflow-monitor",
        "npx tsx packages/cli/src/bin.ts",
      )
      .replace("http://localhost:3000", `http://127.0.0.1:${port}`)
      .replace("--status running", "--status completed"); // it is over by then
    const { stdout } = await promisify(execFile)("sh", ["-c", here], {
      cwd: root,
      timeout: 30_000,
    });
    expect(stdout).toContain("Release 7");
    expect(stdout).toContain("completed");
  }
});
