import { type Egress, printCursor, type WorkflowMonitorError } from "@org/workflow-monitor";
import { turns } from "../../support/clock.js";
import { watchRequest } from "../../support/member.js";
import { lines } from "./codecs.js";
import type { Connection } from "./connection.js";
import { JOB, type Model } from "./model.js";
import { LINGER_MS, type System, type SystemNode } from "./system.js";

/** So long after the store lost a job, nobody watches it any more: a check, and 60 s. */
const GONE_MS = 101_000;

/** Repairs what is broken, and waits until everything has come to rest. */
export async function calm(model: Model, system: System): Promise<void> {
  let lossy = false;
  for (const node of system.nodes) {
    node.armed = false;
    node.link.change("fair");
    reconnect(model, node);
    lossy ||= node.link.lossy;
    node.link.lossy = false;
  }
  await system.settle();
  // What got lost in silence is found by the regular check. A big job comes at most four times a second,
  // and what has left a connection is looked at once a second.
  await system.pass(lossy ? 41_000 : 1_250);
  if (lossy) model.saw("what was lost was looked for");
  await system.settle();
}

export function reconnect(model: Model, { link, model: state }: SystemNode): void {
  if (!link.away) return;
  state.away = false;
  state.awayAt = model.log.next();
  state.backAt = model.now();
  link.restore();
}

/** What must hold when everything has come to rest. */
export async function check(model: Model, system: System): Promise<void> {
  for (const connection of model.open()) checkConnection(model, connection);
  for (const { victims } of model.nodes) {
    for (const victim of victims.splice(0)) {
      if (victim.open) model.fail(`${victim} survived that present threw`);
    }
  }
  checkCrowd(model);
  for (const node of system.nodes) {
    if (node.closed) continue;
    checkStats(model, node);
    await checkBody(model, node.monitor.egress);
  }
  model.assertSound();
}

function checkConnection(model: Model, connection: Connection): void {
  const { log } = model;
  if (!log.present) {
    const missedMs = Math.min(log.absentMs, model.now() - connection.node.backAt);
    if (missedMs > GONE_MS && !connection.waitsForAnswer) {
      model.fail(`${connection} still watches what has been gone for ${missedMs} ms`);
    }
    return;
  }
  const { cursor } = connection;
  checkStall(model, connection);
  if (!connection.flowing) return;
  if (!log.isHead(cursor)) {
    model.fail(`${connection} stands at ${cursor && printCursor(cursor)}, not at the head`);
  }
  if (log.done) model.fail(`${connection} was not ended`);
  if (connection.mode === "poll") model.fail(`${connection} was not answered`);
}

/** What is in flight has its time, and the time of its size, to leave; twice, since it is looked at now and then. */
function checkStall(model: Model, connection: Connection): void {
  const { waitsSince } = connection.line;
  if (waitsSince === undefined) return;
  const most = 2 * (model.config.stallTimeoutMs + 10_000 + 2_000);
  if (model.now() - waitsSince > most) model.fail(`${connection} stalls for ever`);
}

function checkCrowd({ crowd, log, fail }: Model): void {
  for (const fault of crowd?.faults ?? []) fail(`one of the crowd: ${fault}`);
  if (!crowd || !log.present) return;
  for (const { writable, cursor, ends } of crowd.all) {
    if (!writable || ends.length > 0) continue;
    if (!log.isHead(cursor ?? null)) fail("one of the crowd is not at the head");
    if (log.done) fail("one of the crowd was not ended");
  }
}

function checkStats(model: Model, { monitor, model: node }: SystemNode): void {
  const stats = monitor.stats();
  const here = model.connections.filter((connection) => connection.node === node);
  const open = here.filter((connection) => connection.open);
  const crowd = node.index === 0 ? (model.crowd?.all ?? []) : [];
  const onlookers = crowd.filter(({ ends }) => ends.length === 0);
  const expected = { ws: onlookers.length, sse: 0, "long-poll": 0, poll: 0, watch: 0 };
  for (const { transport } of open) expected[transport] += 1;
  const viewers = { ...stats.viewers };
  const { ws, sse, "long-poll": longPoll, watch } = expected;
  same(model, `viewers on node ${node.index}`, viewers, { ws, sse, longPoll, watch });

  const behind = open.filter(({ live, cursor }) => !live || !model.log.isHead(cursor)).length;
  const slow = onlookers.filter(({ cursor }) => !model.log.isHead(cursor ?? null)).length;
  if (model.log.present) same(model, "parked", stats.parked, behind + slow);

  const answers = open.filter(({ waitsForAnswer }) => waitsForAnswer).length;
  const members = open.length - answers + onlookers.length;
  // When the crowd left is not known.
  const lingers = model.now() - node.leftAt <= LINGER_MS || crowd.length > 0 ? 1 : 0;
  const least = members > 0 ? 1 : 0;
  between(model, "rooms", stats.rooms, least, Math.max(least, lingers) + answers);

  const delivered = here.reduce((sum, each) => sum + each.delivered, 0);
  if (crowd.length === 0) same(model, "delivered", stats.delivered, delivered);
  for (const connection of here) {
    if (connection.open || !connection.seat || connection.uncounted) continue;
    same(model, `${connection} delivered`, connection.seat.delivered, connection.delivered);
  }
  same(model, "refused events", stats.refused, 0);
  const waiting = open.some(({ line }) => line.waitsSince !== undefined);
  if (!waiting) same(model, "pinned bytes", stats.pinnedBytes, 0);
  const beat = JSON.parse(String(monitor.egress.heartbeat(lines))) as object;
  if ("stale" in beat) model.fail("a heartbeat is stale although the store is there");
}

function same(model: Model, what: string, got: unknown, expected: unknown): void {
  if (JSON.stringify(got) === JSON.stringify(expected)) return;
  model.fail(`${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(expected)}`);
}

function between(model: Model, what: string, got: number, least: number, most: number): void {
  if (got < least || got > most) model.fail(`${what}: ${got} instead of ${least} to ${most}`);
}

/** Whoever polls gets the head, in the bytes that the viewers got. */
async function checkBody(model: Model, egress: Egress): Promise<void> {
  try {
    const { bytes, cursor, etag, done } = await egress.read(watchRequest(JOB));
    if (!model.log.isHead(cursor)) model.fail(`a poll got ${printCursor(cursor)}, not the head`);
    if (done !== model.log.done) model.fail(`a poll was told done: ${done}`);
    const text = String(bytes);
    model.history.polled({ viewer: "poller", transport: "poll", jobId: JOB, etag, text });
  } catch (thrown) {
    const { code } = thrown as WorkflowMonitorError;
    if (code !== "unknown_job" || model.log.present) model.fail(`a poll was refused: ${code}`);
  }
}

/** The end of a run: everybody catches up, then everything is closed, and nothing is left. */
export async function finish(model: Model, system: System): Promise<void> {
  for (const connection of model.open()) connection.resume();
  for (const onlooker of model.crowd?.all ?? []) onlooker.drain();
  await calm(model, system);
  system.publish(0, { type: "job", jobId: JOB, message: "the last word" });
  await calm(model, system);
  await check(model, system);

  const { history } = model;
  for (const viewer of model.viewers) {
    const watched = viewer.connection?.open || viewer.connection?.ended?.code === 1000;
    const answered = viewer.connection?.polling;
    if (!watched || answered) history.gaveUp(viewer.name);
  }
  for (const { index } of model.nodes) history.gaveUp(`publisher ${index}`);
  const { head } = model.log;
  const job = await system.node(0).monitor.get(JOB);
  if (head) history.head(JOB, head, model.config.present ? undefined : job);
  history.check();

  await closeAll(model, system);
  history.check();
}

async function closeAll(model: Model, system: System): Promise<void> {
  const served = model.connections.filter(({ seat }) => seat);
  for (const { model: node } of system.nodes) system.close(node.index);
  for (const node of system.nodes) await closed(model, system, node);
  for (const connection of served) {
    if (connection.open) model.fail(`${connection} was not ended when its node closed`);
  }
  for (const { ends } of model.crowd?.all ?? []) {
    if (ends.length !== 1) model.fail(`one of the crowd was ended ${ends.length} times`);
  }
  for (const fault of model.crowd?.faults ?? []) model.fail(`one of the crowd: ${fault}`);
  same(model, "followers", system.backend.following, 0);
  await system.backend.store.close();
  same(model, "timers", system.clock.timers, 0);
  model.assertSound();
}

/** Waits for a node that closes; then nothing of it is left. */
export async function closed(model: Model, system: System, node: SystemNode): Promise<void> {
  let done = false;
  void node.closed?.then(() => {
    done = true;
  });
  for (let step = 0; ; step++) {
    await turns(10);
    if (done) break;
    if (step === 100) throw new Error(`node ${node.model.index} does not close`);
    system.clock.advance(50);
  }
  same(model, `timers of node ${node.model.index}`, node.clock.timers, 0);
  const { rooms, parked, viewers } = node.monitor.stats();
  same(model, "what a closed node has", { rooms, parked }, { rooms: 0, parked: 0 });
  const watching = Object.values(viewers).reduce((sum, count) => sum + count, 0);
  same(model, "viewers of a closed node", watching, 0);
  model.assertSound();
}
