// The demo as a newcomer sees it: `npm run demo`, one job, watched over WebSocket and polled.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";

const TIMEOUT_MS = 60_000;
const root = fileURLToPath(new URL("..", import.meta.url));

function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** The demo in a process group of its own, so that npm, the shell and the server all end with it. */
const demo = spawn("npm", ["run", "demo"], {
  cwd: root,
  env: { ...process.env, PORT: "0" },
  detached: true,
  stdio: ["ignore", "pipe", "pipe"],
});
let output = "";

function stop(): void {
  if (demo.pid === undefined) return;
  try {
    process.kill(-demo.pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}

function printedUrl(): Promise<string> {
  return new Promise((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const url = /http:\/\/[\w.[\]-]+:\d+/.exec(output)?.[0];
      if (url) resolve(url.replace("0.0.0.0", "127.0.0.1"));
    };
    demo.stdout.on("data", read);
    demo.stderr.on("data", read);
    demo.once("error", reject);
    demo.once("exit", (code) => reject(new Error(`the demo ended with ${code}`)));
  });
}

/** The frames of one job as texts, from `snapshot` to `end`. */
async function watch(url: string, jobId: string): Promise<string[]> {
  const frames: string[] = [];
  const socket = new WebSocket(
    `${url.replace("http", "ws")}/ws?jobId=${encodeURIComponent(jobId)}`,
  );
  socket.on("message", (data) => frames.push(data.toString()));
  const [code] = (await once(socket, "close")) as [number];
  assert(code === 1000, `the socket closed with ${code}`);
  return frames;
}

const typeOf = (frame: string) => (JSON.parse(frame) as { type: string }).type;

async function smoke(): Promise<void> {
  const url = await printedUrl();
  const accepted = await fetch(`${url}/jobs`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "packages" }),
  });
  assert(accepted.status === 202, `POST /jobs: ${accepted.status} ${await accepted.text()}`);
  const location = accepted.headers.get("location");
  assert(location, "POST /jobs: no Location");
  const job = new URL(location, url);
  const jobId = decodeURIComponent(job.pathname.split("/").pop() ?? "");

  const frames = await watch(url, jobId);
  const types = frames.map(typeOf);
  assert(types[0] === "snapshot", `the first frame is ${types[0]}`);
  assert(types.at(-1) === "end", `the last frame is ${types.at(-1)}`);

  const polled = await fetch(job);
  const body = await polled.text();
  assert(polled.status === 200, `GET ${job.pathname}: ${polled.status} ${body}`);
  const { status } = JSON.parse(body) as { status: string };
  assert(status === "completed", `the job is ${status}`);
  const last = frames.findLast((frame) => ["snapshot", "update"].includes(typeOf(frame)));
  assert(last?.includes(body), `polled and watched differ\npolled: ${body}\nwatched: ${last}`);
  console.log(`demo: job ${jobId} ${status}, ${frames.length} frames, poll and frame agree`);
}

let timer: NodeJS.Timeout | undefined;
const timeout = new Promise<never>((_, reject) => {
  timer = setTimeout(() => reject(new Error(`not done within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
});
try {
  await Promise.race([smoke(), timeout]);
} catch (error) {
  console.error(error, `\nThe demo printed:\n${output}`);
  process.exitCode = 1;
} finally {
  clearTimeout(timer);
  stop();
}
