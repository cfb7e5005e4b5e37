import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { as } from "../support/frames.js";
import { connect } from "../support/viewer.js";
import { inTime } from "../support/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
let demo: ChildProcess;
let url: string;
let output = "";
let links: string;

beforeAll(async () => {
  links = await mkdtemp(join(root, "node_modules", ".links-"));
  await symlink(tmpdir(), join(links, "outside"));
  await symlink(join(tmpdir(), "nothing", "there"), join(links, "dangling"));
  await symlink("loop", join(links, "loop"));
  demo = spawn(process.execPath, ["--import", "tsx", "examples/demo/server.ts"], {
    cwd: root,
    env: { ...process.env, PORT: "0" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  demo.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  if (demo.stdout) await inTime("the demo", once(demo.stdout, "data"), 20_000);
  url = output.trim();
}, 30_000);

afterAll(async () => {
  demo.kill("SIGKILL");
  await rm(links, { recursive: true });
});

const post = (body: string) =>
  fetch(`${url}/jobs`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });

async function begin(path: string) {
  const answer = await post(JSON.stringify({ path }));
  expect(answer.status).toBe(202);
  const { jobId } = (await answer.json()) as { jobId: string };
  expect(answer.headers.get("location")).toBe(`/jobs/${jobId}`);
  return connect(`${url.replace("http", "ws")}/ws?jobId=${jobId}`);
}

/** The job as the last frame before `end` shows it. */
async function endOf(path: string) {
  const frames = await (await begin(path)).readToEnd();
  as("end", frames.at(-1));
  const job = frames.flatMap((frame) => ("job" in frame && frame.job ? [frame.job] : [])).at(-1);
  if (!job) throw new Error("no frame shows the job");
  return job;
}

test("it prints exactly one line", () => {
  expect(output).toMatch(/^http:\/\/127\.0\.0\.1:\d+\n$/);
});

test("an inventory is watched to its end, every stage completed", async () => {
  const job = await endOf("docs");
  expect(job).toMatchObject({ name: "Inventory of docs", status: "completed", progress: 100 });
  expect(job.stages.map(({ stage, status }) => [stage, status])).toEqual(
    ["scan", "hash", "duplicates", "compress", "report"].map((stage) => [stage, "completed"]),
  );
  await rm(join(job.stages.at(-1)?.message ?? "", ".."), { recursive: true });
});

test("a folder that does not exist is accepted, and its scan fails", async () => {
  const job = await endOf("no/such/folder");
  expect(job).toMatchObject({ status: "failed", error: { code: "ENOENT" } });
  expect(job.stages.map(({ status }) => status)).toEqual([
    "failed",
    "skipped",
    "skipped",
    "skipped",
    "skipped",
  ]);
});

describe("refused with a problem document", () => {
  const link = (name: string) => join("node_modules", basename(links), name);
  test.each([
    () => "..",
    () => "../elsewhere/not-there",
    () => "/",
    () => `${root.replace(/[\\/]$/, "")}-not`,
    () => link("outside"),
    () => link("outside/not-there"),
    () => link("dangling"),
    () => link("loop"),
  ])("403: a path outside the checkout %#", async (path) => {
    const answer = await post(JSON.stringify({ path: path() }));
    expect(answer.status).toBe(403);
    expect(answer.headers.get("content-type")).toContain("application/problem+json");
    expect(await answer.json()).toMatchObject({ status: 403, code: "forbidden" });
  });

  test.each(["", "{", "null", "[]", '"docs"', '{"path":5}', '{"path":null}', '{"folder":"docs"}'])(
    "400: the body %j",
    async (body) => {
      const answer = await post(body);
      expect(answer.status).toBe(400);
      expect(answer.headers.get("content-type")).toContain("application/problem+json");
      expect(await answer.json()).toMatchObject({ status: 400, code: "bad_request" });
    },
  );
});

test("SIGTERM cancels what runs, tells its viewers and ends the process with 0", async () => {
  const viewer = await begin("node_modules");
  await viewer.expect("snapshot");
  demo.kill("SIGTERM");
  const [code] = (await inTime("the exit", once(demo, "exit"))) as [number];
  expect(code).toBe(0);
  const end = as("end", (await viewer.readToEnd()).at(-1));
  expect(end.status).toBe("cancelled");
});
