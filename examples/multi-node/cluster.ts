// The cluster: Redis, two web nodes behind a round-robin proxy, two workers and the source, each a process.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Line, startLine } from "../demo/line.js";
import { findRedis } from "./redis.js";
import { createSupervisor, type Program } from "./supervisor.js";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "inventory-cluster-"));

/** Lines wait for the first one, the URL. */
const waiting: string[] = [];
let print = (line: string): void => void waiting.push(line);

const supervise = () => createSupervisor((line) => print(line));
const [services, processes] = [supervise(), supervise()];
let line: Line | undefined;

/** A process of this example. It is told where to listen, and comes back there. */
function program(name: string, file: string, env: Record<string, string>) {
  let port = 0;
  const started: Program & { port(): number } = {
    name,
    launch: () =>
      fork(here(file), {
        cwd: here("../.."),
        execArgv: ["--import", "tsx"],
        env: { ...process.env, ...env, PORT: `${port}` },
        stdio: ["ignore", "pipe", "pipe", "ipc"],
      }),
    async ready(child: ChildProcess) {
      const [told] = (await once(child, "message")) as [{ port?: number }];
      port = told.port ?? 0;
    },
    port: () => port,
  };
  return started;
}

let closing: Promise<void> | undefined;

function close(): Promise<void> {
  closing ??= (async () => {
    await line?.close();
    await processes.stop();
    await services.stop(); // last: the others say goodbye to it
    await rm(folder, { recursive: true, force: true });
  })();
  return closing;
}

process.stdout.on("error", () => {}); // whoever read it has gone; there is still something to end
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void close());

try {
  const redis = await findRedis(folder);
  if (redis.program) await services.start(redis.program);
  const env = { REDIS_URL: redis.url, RESULTS: join(folder, "results") };
  const web = [1, 2].map((n) => program(`web ${n}`, "web.ts", env));
  const workers = [1, 2].map((n) => program(`worker ${n}`, "worker.ts", env));
  const all = [...web, ...workers, program("source", "source.ts", env)];
  await Promise.all(all.map((each) => processes.start(each)));
  const nodes = web.map((node) => ({ host: "127.0.0.1", port: node.port() }));
  const at = { host: "127.0.0.1", port: Number(process.env.PORT || 3_000) };
  line = await startLine(nodes, at);
  console.log(`http://127.0.0.1:${line.port}`);
  print = (text) => console.log(text);
  for (const text of waiting) print(text);
} catch (thrown) {
  if (!closing) {
    console.error((thrown as Error).message);
    process.exitCode = 1;
  }
  await close();
}
