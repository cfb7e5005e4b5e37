import { connect as http2Connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { allowAll, createWorkflowMonitor, type LeaveEvent } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import Fastify from "fastify";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { EventStream } from "../support/event-stream.js";
import { range } from "../support/frames.js";
import { untilGone } from "../support/hooks.js";
import { rawConnect } from "../support/raw.js";
import { eventsPath, type ServerOptions, startServer } from "../support/server.js";
import { countingStore } from "../support/stores.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";
const BEAT_MS = 25_000;

/** A server with two jobs, `job` and `other`. */
async function start(options: ServerOptions = {}) {
  const server = await startServer(options);
  for (const jobId of [JOB, "other"]) {
    await server.monitor.publish({ type: "job", jobId, status: "running" });
  }
  return server;
}

/** The head of a request for a job's event stream, as it is sent. */
const streamRequest = (jobId = JOB, version = "1.1", headers = "") =>
  `GET /jobs/${jobId}/events HTTP/${version}\r\nHost: x\r\nAccept: text/event-stream\r\n${headers}\r\n`;

/** The first line of each event of a raw answer's body. */
function eventNames(answer: string, chunked: boolean): (string | undefined)[] {
  const body = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  const events = (chunked ? dechunk(body) : body).split("\n\n");
  return events.map((event) => event.split("\n")[0]);
}

/** RFC 9112 §7.1. The text has one character a byte. */
function dechunk(body: string): string {
  let content = "";
  for (let at = 0; ; ) {
    const end = body.indexOf("\r\n", at);
    const size = Number.parseInt(body.slice(at, end), 16);
    content += body.slice(end + 2, end + 2 + size);
    at = end + 2 + size + 2;
    if (body.slice(at - 2, at) !== "\r\n")
      throw new Error(`no chunk: ${body.slice(end, end + 80)}`);
    if (size === 0) return content;
  }
}

const ENDED = [
  expect.stringMatching(/^retry: /),
  "event: snapshot",
  "event: update",
  "event: end",
  "",
];

const count = (text: string, part: string) => text.split(part).length - 1;

describe("a drain", () => {
  test.each(["monitor.drain()", "app.close()"])("ends event streams: %s", async (how) => {
    const server = await start();
    const left: LeaveEvent[] = [];
    server.monitor.on("leave", (event) => left.push(event));
    const streams = await Promise.all(range(1, 5).map(() => server.stream(JOB)));
    const cursors = await Promise.all(
      streams.map(async (stream) => (await stream.expect("snapshot")).cursor),
    );
    await inTime(how, how === "app.close()" ? server.app.close() : server.monitor.drain());
    for (const [at, stream] of streams.entries()) {
      expect(await stream.readToEnd()).toMatchObject([
        { type: "error", code: "draining", retryable: true },
      ]);
      expect(stream.events.at(-1)).toMatchObject({ type: "problem", id: undefined });
      expect(stream.parser.lastEventId).toBe(cursors[at]);
      // Not back before this node is gone: its 503 would be final for an EventSource.
      expect(stream.parser.retries.at(-1)).toBeGreaterThanOrEqual(4_000);
      expect(stream.parser.retries.at(-1)).toBeLessThanOrEqual(8_000);
      expect(await stream.ended).toBe("complete");
    }
    expect(left.map(({ transport, code }) => [transport, code])).toEqual(
      streams.map(() => ["sse", 1012]),
    );
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { sse: 0 } });
  });

  test("shows event streams first what was emitted just before", async () => {
    const server = await start();
    const stream = await server.stream(JOB);
    await stream.expect("snapshot");
    server.engine.emit("job", { jobId: JOB, message: "last words" });
    await server.monitor.close();
    expect((await stream.expect("update")).job?.message).toBe("last words");
    expect(await stream.expect("error")).toMatchObject({ code: "draining" });
    expect(await stream.ended).toBe("complete");
  });
});

test("an event stream ends after 5 to 10 minutes, by chance, and is taken up without a gap", async () => {
  const clock = new ManualClock();
  const server = await start({ clock });
  const streams = await Promise.all(range(1, 12).map(() => server.stream(JOB)));
  for (const stream of streams) await stream.expect("snapshot");
  const endedAt = new Map<EventStream, number>();
  for (const stream of streams) void stream.ended.then(() => endedAt.set(stream, clock.now()));
  const from = clock.now();
  for (const _ of range(1, 25)) {
    clock.advance(BEAT_MS);
    // Everything that was sent is read before time goes on: nobody is slow here.
    await server.poll(JOB);
    await turns(10);
    if (clock.now() - from < 300_000) expect(endedAt.size).toBe(0);
  }
  await until("all have ended", () => endedAt.size === streams.length);
  expect(new Set(endedAt.values()).size).toBeGreaterThan(2);
  expect(server.monitor.stats().viewers.sse).toBe(0);
  const [stream] = streams as [EventStream];
  expect(await stream.ended).toBe("complete");
  expect(stream.events.at(-1)?.type).toBe("heartbeat");

  await server.monitor.publish({ type: "job", jobId: JOB, message: "missed" });
  const back = await server.stream(JOB, {}, { "last-event-id": stream.parser.lastEventId });
  expect(await back.expect("snapshot")).toMatchObject({
    resumed: true,
    events: [{ message: "missed" }],
  });
});

describe("an event stream over HTTP/1", () => {
  test("is served to HTTP/1.0, which knows no chunks", async () => {
    const server = await start();
    const client = await rawConnect(server.port);
    client.socket.write(streamRequest(JOB, "1.0"));
    await until("it is served", () => client.text().includes("event: snapshot"));
    await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await until("it is closed", () => client.ended());
    const head = client.text().slice(0, client.text().indexOf("\r\n\r\n"));
    expect(head.toLowerCase()).not.toContain("transfer-encoding");
    expect(eventNames(client.text(), false)).toEqual(ENDED);
  });

  test("leaves its connection to the next request when it has ended", async () => {
    const server = await start();
    const client = await rawConnect(server.port);
    client.socket.write(streamRequest());
    await until("it is served", () => client.text().includes("event: snapshot"));
    await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await until("it has ended", () => client.text().endsWith("0\r\n\r\n"));
    client.socket.write(`GET /jobs/${JOB} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until("it is polled", () => count(client.text(), "HTTP/1.1 200 OK") === 2);
    client.socket.write(streamRequest("other"));
    await until("it is served again", () => count(client.text(), "event: snapshot") === 2);
    expect(client.ended()).toBe(false);
  });

  test("waits for its turn on a connection: two streams in one segment", async () => {
    const server = await start();
    const client = await rawConnect(server.port);
    client.socket.write(streamRequest(JOB) + streamRequest("other"));
    await until("the first is served", () => client.text().includes("event: snapshot"));
    await server.monitor.publish({ type: "job", jobId: "other", message: "for the second" });
    await server.monitor.publish({ type: "job", jobId: JOB, message: "for the first" });
    await until("it has it", () => client.text().includes("for the first"));
    expect(count(client.text(), "HTTP/1.1 200 OK")).toBe(1);
    await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await until("the second is served", () => count(client.text(), "event: snapshot") === 2);
    await until("and has what came", () => client.text().includes("for the second"));
    await server.monitor.publish({ type: "job", jobId: "other", status: "completed" });
    await until("both have ended", () => count(client.text(), "\r\n0\r\n\r\n") === 2);
    const answers = client.text().split("HTTP/1.1 200 OK");
    expect(answers).toHaveLength(3);
    expect(answers[1]).not.toContain('"jobId":"other"');
    expect(answers[2]).not.toContain(`"jobId":"${JOB}"`);
    for (const answer of answers.slice(1)) {
      const names = eventNames(answer, true);
      expect(names.slice(0, 2)).toEqual(ENDED.slice(0, 2));
      expect(names.slice(-3)).toEqual(ENDED.slice(-3));
    }
    await until("nobody is left", () => server.monitor.stats().viewers.sse === 0);
  });

  test("goes with polls before and behind it in one segment", async () => {
    const server = await start();
    const client = await rawConnect(server.port);
    const poll = `GET /jobs/other HTTP/1.1\r\nHost: x\r\n\r\n`;
    client.socket.write(poll + streamRequest(JOB) + poll);
    await until("it is served", () => client.text().includes("event: snapshot"));
    expect(count(client.text(), "HTTP/1.1 200 OK")).toBe(2);
    await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await until("all are answered", () => count(client.text(), "HTTP/1.1 200 OK") === 3);
    const kinds = [...client.text().matchAll(/content-type: ([^;\r]+)/gi)].map(([, type]) => type);
    expect(kinds).toEqual(["application/json", "text/event-stream", "application/json"]);
  });

  test("answers HEAD, and any other method, without a stream", async () => {
    const server = await start();
    for (const method of ["HEAD", "POST", "PUT", "DELETE"]) {
      const client = await rawConnect(server.port);
      client.socket.write(
        streamRequest(JOB, "1.1", "Connection: close\r\n").replace("GET", method),
      );
      await until(`${method} is answered`, () => client.ended());
      expect(client.text()).toMatch(/^HTTP\/1\.1 (404|405) /);
      expect(server.monitor.stats().viewers.sse).toBe(0);
    }
  });
});

describe("an event stream over HTTP/2", () => {
  async function startHttp2() {
    const monitor = createWorkflowMonitor({ authorize: allowAll });
    const app = Fastify({ http2: true, forceCloseConnections: true });
    await app.register(workflowMonitorHttp, { monitor });
    await app.listen({ port: 0, host: "127.0.0.1" });
    const session = http2Connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
    onTestFinished(async () => {
      session.destroy();
      await inTime("app.close()", app.close(), 10_000);
      await monitor.close();
    });
    await monitor.publish({ type: "job", jobId: JOB, status: "running" });

    async function stream(path = eventsPath(JOB), accept = "text/event-stream") {
      const sent = session.request({ ":path": path, accept });
      sent.on("error", () => {});
      const headers = await new Promise<Record<string, unknown>>((resolve) => {
        sent.once("response", resolve);
      });
      return { headers, sent, viewer: new EventStream(headers as Record<string, string>, sent) };
    }
    return { monitor, app, session, stream };
  }

  test("is the same, and ends with the job", async () => {
    const { monitor, stream } = await startHttp2();
    const [one, two] = [await stream(), await stream()];
    expect(one.headers).toMatchObject({ ":status": 200, "x-accel-buffering": "no" });
    for (const { viewer } of [one, two]) await viewer.expect("snapshot");
    expect(monitor.stats().viewers.sse).toBe(2);
    await monitor.publish({ type: "job", jobId: JOB, message: "ü 😀" });
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    for (const { viewer } of [one, two]) {
      const types = (await viewer.readToEnd()).map(({ type }) => type);
      expect(types).toEqual(["update", "update", "end"]);
      expect(await viewer.ended).toBe("complete");
    }
    expect(one.viewer.payloads.map(String)).toEqual(two.viewer.payloads.map(String));
    await until("nobody is left", () => monitor.stats().viewers.sse === 0);
    const again = await stream(eventsPath(JOB, { after: one.viewer.parser.lastEventId }));
    expect(again.headers[":status"]).toBe(204);
  });

  test("leaves when its stream is reset, while the others of its connection go on", async () => {
    const { monitor, stream } = await startHttp2();
    const [gone, here] = [await stream(), await stream()];
    for (const { viewer } of [gone, here]) await viewer.expect("snapshot");
    gone.sent.close(8); // CANCEL
    await until("it has left", () => monitor.stats().viewers.sse === 1);
    await monitor.publish({ type: "job", jobId: JOB, message: "goes on" });
    expect((await here.viewer.expect("update")).job?.message).toBe("goes on");
  });

  test("does not hold up app.close()", async () => {
    const { app, stream } = await startHttp2();
    const { viewer } = await stream();
    await viewer.expect("snapshot");
    await inTime("app.close()", app.close(), 5_000);
    expect(await viewer.expect("error")).toMatchObject({ code: "draining" });
    expect(await viewer.ended).toBe("complete");
  });
});

describe("a client that goes", () => {
  test.each(["before the answer", "after the snapshot", "while it is served"])(
    "leaves nothing behind: %s",
    async (when) => {
      const clock = new ManualClock();
      const { store, counts } = countingStore({ clock });
      let allow: ((_: boolean) => void) | undefined;
      const held = when === "before the answer";
      const server = await start({
        clock,
        store,
        authorize: () => !held || new Promise<boolean>((resolve) => (allow = resolve)),
      });
      const timers = clock.timers;
      const client = await rawConnect(server.port);
      client.socket.write(streamRequest());
      if (when === "after the snapshot") {
        await until("it is served", () => client.text().includes("event: snapshot"));
      } else if (held) await until("authorize is asked", () => allow !== undefined);
      client.socket.destroy();
      await turns(10);
      allow?.(true);
      await until("it has left", () => {
        const { sse } = server.monitor.stats().viewers;
        return sse === 0 && (when !== "while it is served" || counts.follows > 0);
      });
      await turns(10);
      clock.advance(5_000); // the room lingers
      await until("nothing follows the job", () => counts.following === 0);
      expect(server.monitor.stats()).toMatchObject({ rooms: 0, parked: 0, viewers: { sse: 0 } });
      expect(clock.timers).toBe(timers);
    },
  );

  test("leaves nothing behind although it went while a hook of the host was at work", async () => {
    const hook = untilGone();
    const server = await start({ prepare: (app) => app.addHook("preHandler", hook.run) });
    const client = await rawConnect(server.port);
    client.socket.write(streamRequest());
    await until("the hook is at work", () => hook.asked === 1);
    client.socket.destroy();
    const disconnected = () => server.lines.filter(({ context }) => context.transport === "sse");
    await until("it was a viewer", () => hook.done === 1 && disconnected().length === 1);
    expect(disconnected()).toMatchObject([{ context: { code: 1001 } }]);
    expect(server.monitor.stats()).toMatchObject({ parked: 0, viewers: { sse: 0 } });
  });

  test("by the hundred, all at once, disturbs nobody", async () => {
    const server = await start();
    const here = await server.stream(JOB);
    await here.expect("snapshot");
    const gone = await Promise.all(range(1, 100).map(() => server.stream(JOB)));
    for (const stream of gone) await stream.expect("snapshot");
    for (const stream of gone) stream.abort();
    server.engine.emit("job", { jobId: JOB, message: "goes on" });
    expect((await here.expect("update")).job?.message).toBe("goes on");
    await until("they have left", () => server.monitor.stats().viewers.sse === 1);
  });
});

test("[D2] [D3] a client that does not read is parked, disturbs nobody, and is ended in time", async () => {
  const clock = new ManualClock();
  const server = await start({ clock, stallTimeoutMs: 30_000, heartbeatMs: 300_000 });
  const left: LeaveEvent[] = [];
  server.monitor.on("leave", (event) => left.push(event));
  const slow = await rawConnect(server.port);
  slow.socket.write(streamRequest());
  await until("it is served", () => slow.text().includes("event: snapshot"));
  slow.socket.pause();
  const here = await server.stream(JOB, { mode: "delta" });
  await here.expect("snapshot");
  let published = 0;
  while (server.monitor.stats().parked === 0) {
    expect(published).toBeLessThan(2_000); // 16 MB: more than the kernel hides
    const metadata = { text: "x".repeat(8_000), n: published++ };
    await server.monitor.publish({ type: "job", jobId: JOB, metadata });
    await here.readUntil((frame) => frame.type === "update" || frame.type === "snapshot");
  }
  expect(left).toEqual([]);
  for (const _ of range(1, 40)) {
    clock.advance(1_000);
    await turns();
  }
  await until("it is ended", () => left.length > 0);
  expect(left).toMatchObject([{ jobId: JOB, transport: "sse", code: 4000 }]);
  expect(server.monitor.stats()).toMatchObject({ parked: 0, pinnedBytes: 0, viewers: { sse: 1 } });
  server.engine.emit("job", { jobId: JOB, message: "goes on" });
  const last = (await here.readUntil((frame) => "job" in frame || "patch" in frame)).at(-1);
  expect(JSON.stringify(last)).toContain("goes on");
}, 20_000);
