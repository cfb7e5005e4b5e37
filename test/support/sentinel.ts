import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { answering, EXECUTABLE, freePort } from "./redis.js";

/**
 * A Sentinel that watches the Redis on a port of 127.0.0.1 under the name `main`, alone, and loses
 * patience after a second. Resolves to its port when it answers. Killed at the end of the test.
 */
export async function startSentinel(master: number): Promise<number> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "workflow-monitor-sentinel-"));
  const file = join(folder, "sentinel.conf");
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor main 127.0.0.1 ${master} 1`,
    "sentinel down-after-milliseconds main 1000",
    "sentinel failover-timeout main 2000",
  ];
  writeFileSync(file, `${lines.join("\n")}\n`);
  const sentinel: ChildProcess = spawn(EXECUTABLE, [file, "--sentinel"], { stdio: "ignore" });
  sentinel.on("error", () => {}); // told by the wait below
  onTestFinished(async () => {
    if (sentinel.exitCode === null && sentinel.kill("SIGKILL")) await once(sentinel, "exit");
    rmSync(folder, { recursive: true, force: true });
  });
  await answering(port, sentinel);
  return port;
}
