import { describe, expect, test } from "vitest";
import { startFaultProxy } from "../support/fault-proxy.js";
import { startServer } from "../support/server.js";
import { HOSTILE } from "./given.js";
import { hasScript, run, runInTerminal } from "./run.js";
import { Screen } from "./screen.js";

const TIMEOUT = { timeout: 30_000 };
const PLAN = { jobId: "42", name: "Release 7", stages: [{ stage: "build" }, { stage: "test" }] };

const urlOf = ({ port }: { port: number }) => `http://127.0.0.1:${port}`;

describe("in a pipe", TIMEOUT, () => {
  test("a job is a line for each transition, across a lost connection, and exit code 0", async () => {
    const { engine, port } = await startServer();
    const proxy = await startFaultProxy(port);
    engine.emit("plan", PLAN);
    const watch = run(["watch", urlOf(proxy), "42"]);
    await watch.shows("connection: live over WebSocket");
    engine.emit("stage", { jobId: "42", stage: "build", status: "running", progress: 10 });
    await watch.shows("stage build: running");
    proxy.cut();
    await watch.shows("connection: reconnecting: ");
    engine.emit("stage", { jobId: "42", stage: "build", progress: 50 });
    engine.emit("stage", { jobId: "42", stage: "build", status: "completed" });
    engine.emit("stage", { jobId: "42", stage: "test", status: "completed", message: "80 passed" });
    expect(await watch.exited).toBe(0);
    expect(watch.stderr).toBe("");
    const lines = watch.stdout.trimEnd().split("\n");
    for (const line of lines) expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /);
    expect(lines.map((line) => line.slice(25)).filter((line) => !line.startsWith("conn"))).toEqual([
      "job Release 7: pending, 0 %, stages: 2 pending",
      "job Release 7: running",
      "stage build: running",
      "stage build: completed",
      "stage test: completed: 80 passed",
      expect.stringMatching(
        /^job Release 7: completed, 100 %, in 0:0\d: 80 passed|^job Release 7: completed, 100 %, in 0:0\d$/,
      ),
    ]);
  });

  test("the exit code says how the job ended, or that it could not be watched", async () => {
    const server = await startServer();
    for (const status of ["failed", "cancelled", "skipped"] as const) {
      server.engine.emit("job", { jobId: status, status });
    }
    const url = urlOf(server);
    const wrongPath = run([
      "watch",
      url,
      "failed",
      "--jobs-path",
      "/nowhere",
      "--transport",
      "sse",
    ]);
    const ends = ["failed", "cancelled", "skipped"].map((jobId) =>
      run(["watch", `${url}/jobs/${jobId}`]),
    );
    expect(await Promise.all(ends.map(({ exited }) => exited))).toEqual([1, 2, 2]);
    expect(await wrongPath.exited).toBe(3);
    expect(wrongPath.stdout).toBe("");
    expect(wrongPath.stderr).toMatch(/^[^\n]*\/nowhere [^\n]*\n$/);
  });

  test("a wrong command line is a sentence, the usage and exit code 64; help and version are 0", async () => {
    const [wrong, help, version] = [
      run(["watch", "localhost"]),
      run(["--help"]),
      run(["--version"]),
    ];
    expect(await wrong.exited).toBe(64);
    expect(wrong.stderr).toMatch(/^localhost is not the url of a server.*\n\nworkflow-monitor: /);
    expect(wrong.stdout).toBe("");
    expect(await help.exited).toBe(0);
    expect(help.stdout).toContain("workflow-monitor watch <url> <jobId>");
    expect(await version.exited).toBe(0);
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\S*\n$/);
  });

  test("--json is one object a line, from a cursor on, with the token of the environment", async () => {
    const { engine, port, settled } = await startServer({
      authorize: ({ headers }) => headers.authorization === "Bearer secret",
    });
    engine.emit("plan", PLAN);
    const { epoch } = await settled("42");
    engine.emit("stage", { jobId: "42", stage: "build", status: "completed" });
    const args = ["watch", urlOf({ port }), "42", "--json"];
    const watch = run([...args, "--after", `${epoch}.1`], { WORKFLOW_MONITOR_TOKEN: "secret" });
    await watch.shows('"build"');
    engine.emit("job", { jobId: "42", status: "completed" });
    expect(await watch.exited).toBe(0);
    const lines = watch.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ type }) => type !== "connection")).toMatchObject([
      { type: "event", cursor: `${epoch}.2`, event: { stage: "build", status: "completed" } },
      { type: "event", cursor: `${epoch}.3`, event: { type: "job", status: "completed" } },
      { type: "end", job: { jobId: "42", status: "completed", revision: 3 } },
    ]);
    expect(watch.stderr).toBe("");
  });

  test("who stops reading ends it quietly, and so do signals", async () => {
    const server = await startServer();
    server.engine.emit("plan", PLAN);
    const [piped, stopped] = [
      run(["watch", urlOf(server), "42"]),
      run(["watch", urlOf(server), "42"]),
    ];
    await Promise.all([piped.shows("live"), stopped.shows("live")]);
    stopped.kill("SIGTERM");
    expect(await stopped.exited).toBe(143);
    piped.stopReading();
    server.engine.emit("stage", { jobId: "42", stage: "build", status: "running" });
    expect(await piped.exited).toBe(141);
    expect(piped.stderr + stopped.stderr).toBe("");
  });

  test("list is a table, or one job a line", async () => {
    const server = await startServer();
    server.engine.emit("plan", { ...PLAN, labels: { team: "a" } });
    server.engine.emit("stage", { jobId: "42", stage: "build", status: "completed" });
    server.engine.emit("job", { jobId: "43", status: "failed" });
    await server.settled("43");
    const url = urlOf(server);
    const [table, rows, none] = [
      run(["list", url]),
      run(["list", url, "--json", "--label", "team:a", "--limit", "1"]),
      run(["list", url, "--status", "waiting"]),
    ];
    expect(await table.exited).toBe(0);
    const [header, ...lines] = table.stdout.trimEnd().split("\n");
    expect(header).toMatch(/^JOB +NAME +STATUS +DONE +STAGE +CHANGED$/);
    expect(lines.sort()).toEqual([
      expect.stringMatching(/^42 +Release 7 +running +50 % +0:0\d ago$/),
      expect.stringMatching(/^43 +failed +0 % +0:0\d ago$/),
    ]);
    expect(await rows.exited).toBe(0);
    expect(JSON.parse(rows.stdout)).toMatchObject({ jobId: "42", labels: { team: "a" } });
    expect(await none.exited).toBe(0);
    expect([none.stdout, none.stderr]).toEqual(["", "There are no such jobs.\n"]);
  });
});

if (!hasScript) console.warn("No `script` of util-linux: nothing is tested in a pseudo-terminal.");

describe.skipIf(!hasScript)("in a terminal", TIMEOUT, () => {
  test("bars move while the job runs; the last picture stays, and the cursor is back", async () => {
    const server = await startServer();
    const name = HOSTILE.join(" ");
    server.engine.emit("plan", { ...PLAN, name });
    server.engine.emit("stage", { jobId: "42", stage: "build", status: "running", progress: 50 });
    const watch = runInTerminal(["watch", urlOf(server), "42"]);
    await watch.shows("live over WebSocket");
    expect(watch.stdout).toContain("█████████░░░░░░░░░");
    expect(watch.stdout).toContain("\u001b[36mrunning");
    for (const stage of ["build", "test"]) {
      server.engine.emit("stage", { jobId: "42", stage, status: "completed" });
    }
    expect(await watch.exited).toBe(0);
    const screen = new Screen(80, 24);
    screen.write(watch.stdout); // throws at what the program must not write
    expect(screen.cursorHidden).toBe(false);
    expect(screen.text.split("\n").slice(1)).toEqual([
      "  2 stages: 2 completed",
      "  ✔ build completed ██████████████████ 100 %",
      "  ✔ test  completed ██████████████████ 100 %",
    ]);
  });

  test("Ctrl-C restores the cursor and is exit code 130; NO_COLOR is respected", async () => {
    const server = await startServer();
    server.engine.emit("plan", PLAN);
    const watch = runInTerminal(["watch", urlOf(server), "42"], { NO_COLOR: "1" });
    await watch.shows("live over WebSocket");
    watch.type("\u0003");
    expect(await watch.exited).toBe(130);
    expect(watch.stdout).toMatch(/\?25h\s*$/);
    expect(watch.stdout).not.toMatch(/\[\d+m/);
  });
});
