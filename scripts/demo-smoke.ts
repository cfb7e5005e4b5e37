// The demo as a newcomer sees it: `npm run demo`, one job, watched over WebSocket and polled.
import { once } from "node:events";
import { WebSocket } from "ws";
import { assert, smoke } from "./smoke.js";

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

await smoke("demo", 60_000, async ({ url }) => {
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
  return `job ${jobId} ${status}, ${frames.length} frames, poll and frame agree`;
});
