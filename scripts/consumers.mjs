// Proves what the workspace cannot: the packed tarballs, installed in an empty project, run as ESM
// and as CJS, and type-check under `nodenext` and under `bundler`.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const adapters = ["ws-adapter", "http-adapter"];
const many = ["redis-store", "bullmq-source"];
const packages = ["core", ...adapters, ...many, "client", "elements", "cli"];
const manifest = (path) => JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
const pins = manifest(root).devDependencies;
const temp = mkdtempSync(join(tmpdir(), "workflow-monitor-consumers-"));

/** The one program, in both module systems: everything a first reader of the README would do. */
const program = `
async function main() {
  const engine = createEngine();
  const monitor = createWorkflowMonitor({ authorize: allowAll, store: memoryStore() });
  monitor.attach(engine);
  const app = Fastify();
  await app.register(workflowMonitorHttp, { monitor });
  const sockets = attachWebSocket(app.server, { monitor, path: "/ws" });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  await monitor.publish({ type: "stage", jobId: "42", stage: "build", status: "running" });
  const response = await fetch(url + "/jobs/42");
  if (response.status !== 200) throw new Error("GET /jobs/42: " + response.status);
  const body = await response.text();

  // The WebSocket's first frame holds the same bytes.
  const socket = new WebSocket(url.replace("http", "ws") + "/ws?jobId=42");
  const frame = await new Promise((resolve, reject) => {
    socket.once("message", (data) => resolve(data.toString()));
    socket.once("error", reject);
    socket.once("close", (code) => reject(new Error("closed " + code)));
  });
  if (!frame.includes(body)) throw new Error("the frame does not hold the polled body: " + frame);
  const gone = new Promise((resolve) => socket.once("close", resolve));

  const watch = createMonitorClient({ url, WebSocket }).watch("42");
  await monitor.publish({ type: "job", jobId: "42", status: "completed" });
  const { status } = await watch.finished();
  if (status !== "completed") throw new Error("the client says " + status);
  await app.close();
  await sockets.close();
  await monitor.close();
  await gone;
  for (const [name, value] of Object.entries({ applyPatch, parseCursor, storeContract, adapterContract, engineContract, redisStore, bullmqSource })) {
    if (typeof value !== "function") throw new Error(name + " is not exported");
  }
  if (CloseCode !== ProtocolCloseCode) throw new Error("index and ./protocol hold two copies");
  console.log("ok");
}
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
`;

const names = {
  "@org/workflow-monitor":
    "{ allowAll, applyPatch, CloseCode, createEngine, createWorkflowMonitor, memoryStore, parseCursor }",
  "@org/workflow-monitor/testing": "{ adapterContract, engineContract, storeContract }",
  "@org/workflow-monitor-http": "{ workflowMonitorHttp }",
  "@org/workflow-monitor-ws": "{ attachWebSocket }",
  "@org/workflow-monitor-redis": "{ redisStore }",
  "@org/workflow-monitor-bullmq": "{ bullmqSource }",
  "@org/workflow-monitor-client": "{ createMonitorClient }",
  ws: "{ WebSocket }",
};
const esm = `import Fastify from "fastify";
${Object.entries(names)
  .map(([from, what]) => `import ${what} from "${from}";`)
  .join("\n")}
import { CloseCode as ProtocolCloseCode } from "@org/workflow-monitor/protocol";
${program}`;
const cjs = `const Fastify = require("fastify");
${Object.entries(names)
  .map(([from, what]) => `const ${what} = require("${from}");`)
  .join("\n")}
const { CloseCode: ProtocolCloseCode } = require("@org/workflow-monitor/protocol");
${program}`;

const typed = `import Fastify from "fastify";
import { allowAll, createEngine, createWorkflowMonitor, memoryStore } from "@org/workflow-monitor";
import type { JobStore } from "@org/workflow-monitor";
import { CloseCode } from "@org/workflow-monitor/protocol";
import { storeContract } from "@org/workflow-monitor/testing";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { redisStore } from "@org/workflow-monitor-redis";
import { bullmqSource } from "@org/workflow-monitor-bullmq";
import { createMonitorClient, type JobSnapshot } from "@org/workflow-monitor-client";
import { useJob } from "@org/workflow-monitor-client/react";
import { WebSocket } from "ws";

export async function last(): Promise<JobSnapshot> {
  const client = createMonitorClient({ url: "http://localhost:3000", WebSocket });
  for await (const job of client.watch("42")) console.log(job.progress);
  return client.watch("42").finished();
}

export function Progress(): string {
  const { job, connection } = useJob("42");
  return \`\${job?.progress} \${connection?.state}\`;
}

export function node() {
  const store: JobStore = redisStore({ url: "redis://localhost:6379" });
  const monitor = createWorkflowMonitor({ authorize: allowAll, store });
  const source = bullmqSource({ queues: ["a"], connection: { host: "localhost" }, mode: "flow" });
  return [monitor.attach(source), source.close] as const;
}

export async function start(): Promise<string> {
  const engine = createEngine();
  const store: JobStore = memoryStore();
  const monitor = createWorkflowMonitor({ authorize: allowAll, store });
  const detach: () => void = monitor.attach(engine);
  const app = Fastify();
  await app.register(workflowMonitorHttp, { monitor });
  attachWebSocket(app.server, { monitor, path: "/ws" });
  engine.emit("stage", { jobId: "42", stage: "build", status: "running" });
  // @ts-expect-error: no such event
  engine.emit("stages", { jobId: "42", stage: "build", status: "running" });
  // @ts-expect-error: no such status
  engine.emit("stage", { jobId: "42", stage: "build", status: "sleeping" });
  // @ts-expect-error: authorize is required
  createWorkflowMonitor({});
  detach();
  return String([CloseCode, storeContract]);
}
`;

/** Runs a command in `cwd`; a failure shows its output. */
function run(cwd, command, ...args) {
  try {
    return execFileSync(command, args, {
      cwd,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    console.error(`${command} ${args.join(" ")} failed\n${error.stdout}${error.stderr}`);
    throw error;
  }
}

function check(name, body) {
  const from = Date.now();
  body();
  console.log(`✓ ${name} (${Date.now() - from} ms)`);
}

/** A sibling that is missing from a package's dependencies is silently bundled into its dist. */
function nothingInlined() {
  for (const folder of [...adapters, ...many]) {
    const dist = join(root, "packages", folder, "dist");
    const files = readdirSync(dist).filter((file) => /\.c?js$/.test(file));
    const text = files.map((file) => readFileSync(join(dist, file), "utf8")).join("\n");
    for (const copied of ["function createWorkflowMonitor(", "class WorkflowMonitorError"]) {
      if (text.includes(copied)) throw new Error(`${folder}/dist holds a copy of core: ${copied}`);
    }
    const imports = /(?:from\s*|require\()["']@org\/workflow-monitor["'/]/;
    for (const file of ["index.js", "index.cjs", "index.d.ts", "index.d.cts"]) {
      if (!imports.test(readFileSync(join(dist, file), "utf8"))) {
        throw new Error(`${folder}/dist/${file} does not import @org/workflow-monitor`);
      }
    }
  }
}

function install() {
  const packed = JSON.parse(
    run(
      root,
      "npm",
      "pack",
      "--json",
      "--pack-destination",
      temp,
      ...packages.flatMap((folder) => ["-w", `packages/${folder}`]),
    ),
  );
  const dependencies = Object.fromEntries(
    Object.values(packed).map(({ name, filename }) => [name, `file:./${filename}`]),
  );
  for (const name of ["fastify", "ws", "react", "typescript"]) dependencies[name] = pins[name];
  const { bullmq, ioredis } = manifest(join(root, "packages/bullmq-source")).devDependencies;
  Object.assign(dependencies, { bullmq, ioredis });
  for (const name of ["node", "react", "ws"])
    dependencies[`@types/${name}`] = pins[`@types/${name}`];
  writeFileSync(
    join(temp, "package.json"),
    JSON.stringify({ name: "consumer", version: "1.0.0", private: true, dependencies }),
  );
  run(temp, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline");
  if (readdirSync(join(temp, "node_modules")).includes("typed-emitter")) {
    throw new Error("typed-emitter reaches users");
  }
}

/** Type-checks `typed` with the strictest reading of our .d.ts: skipLibCheck is off for them. */
function typecheck(name, compilerOptions, file) {
  const project = join(temp, name);
  mkdirSync(project);
  writeFileSync(join(project, file), typed);
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "es2022",
        strict: true,
        noEmit: true,
        types: ["node"],
        skipLibCheck: false,
        ...compilerOptions,
      },
      include: [file],
    }),
  );
  run(project, process.execPath, join(temp, "node_modules/typescript/bin/tsc"), "-p", ".");
}

try {
  check("dist of ws and http imports core, holds no copy of it", nothingInlined);
  check("npm pack, npm install in an empty project", install);
  check("ESM: import, serve, publish, poll, watch", () => {
    writeFileSync(join(temp, "consumer.mjs"), esm);
    run(temp, process.execPath, "consumer.mjs");
  });
  check("CJS: the same with require", () => {
    writeFileSync(join(temp, "consumer.cjs"), cjs);
    run(temp, process.execPath, "consumer.cjs");
  });
  check("elements: import where there is no page", () => {
    writeFileSync(join(temp, "elements.mjs"), `import "@org/workflow-monitor-elements";`);
    run(temp, process.execPath, "elements.mjs");
  });
  check("npx workflow-monitor --version", () => {
    const { version } = manifest(join(root, "packages/cli"));
    const printed = run(temp, "npx", "--no-install", "workflow-monitor", "--version").trim();
    if (printed !== version) throw new Error(`it says ${printed}, not ${version}`);
  });
  const nodenext = { module: "nodenext" };
  check("tsc, nodenext, ESM", () => typecheck("nodenext-esm", nodenext, "index.mts"));
  check("tsc, nodenext, CJS", () => typecheck("nodenext-cjs", nodenext, "index.cts"));
  check("tsc, bundler", () =>
    typecheck("bundler", { module: "esnext", moduleResolution: "bundler" }, "index.ts"),
  );
} finally {
  rmSync(temp, { recursive: true, force: true });
}
