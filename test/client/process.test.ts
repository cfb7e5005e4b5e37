import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a program that has `client`, and `log`, which prints a line; killed at the end of the test. */
function startProgram(port: number, options: string, body: string) {
  const code = `
    import { createMonitorClient } from "@org/workflow-monitor-client";
    import { WebSocket } from "ws";
    const client = createMonitorClient({ url: "http://127.0.0.1:${port}", ${options} });
    const log = (...words) => console.log(...words);
    ${body}`;
  const args = ["--import", "tsx", "--input-type=module", "-e", code];
  const child = spawn(process.execPath, args, { cwd: root });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const output = { text: "" };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output.text += text;
    });
  }
  const exited = once(child, "close").then(([exitCode]) => exitCode as number | null);
  return { output, exited };
}

const WAYS = [
  { way: "the package ws", options: "WebSocket", transport: "ws" },
  // The runtimes of today have a WebSocket of their own.
  {
    way: "no WebSocket",
    options: "",
    transport: "WebSocket" in globalThis ? "ws" : "sse",
  },
  { way: "polls", options: 'transports: ["poll"]', transport: "poll" },
];

test.each(WAYS)(
  "a process that only watches, with $way, exits by itself when the job is over",
  { timeout: 30_000 },
  async ({ options, transport }) => {
    const { monitor, port } = await startServer();
    await monitor.publish({ type: "job", jobId: "a", status: "running" });
    const { exited, output } = startProgram(
      port,
      options,
      `for await (const { status } of client.watch("a")) log(status);
      const again = client.watch("a");
      again.on("connection", ({ state, transport }) => log(state, transport));
      log((await again.finished()).status);`,
    );
    await until("it watches", () => output.text.includes("running"), 20_000);
    await monitor.publish({ type: "job", jobId: "a", status: "completed" });
    expect(await inTime("its exit", exited, 10_000)).toBe(0);
    const state = transport === "poll" ? "polling" : "live";
    const lines = `running\ncompleted\n${state} ${transport}\nended null\ncompleted\n`;
    expect(output.text).toBe(lines);
  },
);

test("so does one that leaves its loop, aborts, or closes its client", async () => {
  const { monitor, port } = await startServer();
  await monitor.publish({ type: "job", jobId: "a", status: "running" });
  const body = `
    for await (const { status } of client.watch("a")) { log(status); break; }
    const stop = new AbortController();
    const watch = client.watch("a", { signal: stop.signal });
    watch.on("change", () => stop.abort());
    await watch.finished().catch(({ code }) => log(code));
    client.watch("a").on("change", () => client.close());`;
  for (const options of ["WebSocket", 'transports: ["sse"]', 'transports: ["poll"]']) {
    const { exited, output } = startProgram(port, options, body);
    expect(await inTime("its exit", exited, 20_000)).toBe(0);
    expect(output.text).toBe("running\nclosed\n");
  }
}, 60_000);
