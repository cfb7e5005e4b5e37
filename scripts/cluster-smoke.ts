// The cluster as a newcomer sees it: `npm run demo:cluster`, one Flow, and the node of its viewer is killed in the middle.
import { createMonitorClient, type JobSnapshot } from "@org/workflow-monitor-client";
import { WebSocket } from "ws";
import { withoutRedis } from "../test/support/redis.js";
import { assert, type Demo, smoke } from "./smoke.js";

/** The web nodes to which viewers of a job have come, in turn: their names and pids. */
function nodesOf({ output }: Demo, jobId: string) {
  const came = new RegExp(`^(web \\d) +(\\d+) +viewer \\S+ of ${jobId} has come$`, "gm");
  return [...output.matchAll(came)].map(([, name = "", pid]) => ({ name, pid: Number(pid) }));
}

/** Far enough, and not too far. */
const isMiddle = ({ stages }: JobSnapshot) =>
  stages.some(({ stage, status, progress }) => {
    return stage === "hash" && status === "running" && progress > 0;
  });

async function killTheNode(demo: Demo): Promise<string> {
  const { url } = demo;
  const accepted = await fetch(`${url}/jobs`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "node_modules" }),
  });
  assert(
    accepted.status === 202,
    `POST /jobs: ${accepted.status} ${await accepted.clone().text()}`,
  );
  const { jobId } = (await accepted.json()) as { jobId: string };

  // From the first event on; over WebSocket only, through the proxy.
  const client = createMonitorClient({ url, WebSocket, transports: ["ws"] });
  const { epoch } = await client.get(jobId);
  const watch = client.watch(jobId, { after: `${epoch}.0` });
  const seen: { cursor: string; event: string; afterwards: boolean }[] = [];
  const states: string[] = [];
  let killed: { name: string; pid: number } | undefined;
  let gaps = 0;
  watch.on("event", (event, { cursor }) => {
    seen.push({ cursor, event: JSON.stringify(event), afterwards: killed !== undefined });
  });
  watch.on("connection", ({ state }) => states.push(state));
  watch.on("change", (job, { resumed }) => {
    if (!resumed) gaps += 1;
    if (killed || !isMiddle(job)) return;
    killed = nodesOf(demo, jobId).at(-1);
    if (killed) process.kill(killed.pid, "SIGKILL");
  });
  const job = await watch.finished();
  assert(killed, "the job was over before its viewer's node could be killed");
  assert(job.status === "completed", `the job is ${job.status}`);
  const nodes = nodesOf(demo, jobId).map(({ name }) => name);
  assert(nodes.at(-1) !== killed.name, `the viewer has not left ${killed.name}: ${nodes.join()}`);
  assert(states.includes("reconnecting"), `the viewer has noticed nothing: ${states.join()}`);

  // Every event once, in order: what another node has of them says so.
  const history = await fetch(`${url}/jobs/${jobId}/events?after=${epoch}.0`);
  const { events, resumed } = (await history.json()) as { events: object[]; resumed: boolean };
  client.close();
  assert(resumed && gaps === 0, "the history does not reach back");
  const cursors = events.map((_, at) => `${epoch}.${at + 1}`).join();
  assert(seen.map(({ cursor }) => cursor).join() === cursors, `it saw ${JSON.stringify(seen)}`);
  const texts = events.map((event) => JSON.stringify(event)).join();
  assert(seen.map(({ event }) => event).join() === texts, "it saw other events than there were");
  const later = seen.filter(({ afterwards }) => afterwards).length;
  assert(later > 0, "nothing happened after the node was killed");
  return `job ${jobId} ${job.status}; ${seen.length} events, each of them once, ${later} after ${killed.name} was killed, on ${nodes.at(-1)}`;
}

if (!withoutRedis) await smoke("demo:cluster", 120_000, killTheNode);
