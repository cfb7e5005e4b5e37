import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  allowAll,
  createWorkflowMonitor,
  type Engine,
  type ErrorCode,
  type Frame,
  type JobPage,
  type JobStore,
  memoryStore,
  printCursor,
  SUBPROTOCOL,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocketServer } from "ws";
import { ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import type { Answer } from "../support/http.js";
import { clientFrame, Opcode, rawUpgrade } from "../support/raw.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { connect } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";
import { JOB, startWatched } from "../support/watched.js";

/** A problem document, without the headers that differ by the moment. */
function problem({ status, headers: { date, ...headers }, text }: Answer) {
  return { status, headers, text };
}

describe("an unknown job", () => {
  test("is an error frame and a close 4404, and a 404 as problem+json", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = connect(server.wsUrl("unknown"));
    expect(await viewer.readToEnd()).toEqual([
      {
        type: "error",
        jobId: "unknown",
        code: "unknown_job",
        message: expect.any(String),
        retryable: false,
      },
    ]);
    const { code, reason } = await viewer.closed;
    expect(code).toBe(4404);
    expect(reason).not.toBe("");
    const polled = await server.poll("unknown");
    expect(polled.status).toBe(404);
    expect(polled.headers).toMatchObject({
      "content-type": expect.stringMatching(/^application\/problem\+json/),
      "cache-control": "no-store",
    });
    expect(polled.json()).toEqual({
      type: expect.any(String),
      title: expect.any(String),
      status: 404,
      detail: expect.any(String),
      code: "unknown_job",
    });
    expect("etag" in polled.headers).toBe(false);
    await undisturbed();
  });

  test("leaves nothing behind: no room, no viewer", async () => {
    const server = await startServer();
    const viewers = range(1, 50).map((n) => connect(server.wsUrl(`unknown ${n}`)));
    for (const viewer of viewers) expect((await viewer.closed).code).toBe(4404);
    expect(server.monitor.stats()).toMatchObject({ jobs: 0, rooms: 0, viewers: { ws: 0 } });
  });

  const impossible = ["x".repeat(101), "🚀".repeat(9), ".", "..", "__proto__", "a\nb", "\ud800"];
  test.each(impossible)("that cannot exist looks the same: %j", async (jobId) => {
    const { server, undisturbed } = await startWatched();
    const viewer = connect(server.wsUrl(jobId));
    expect(await viewer.expect("error")).toMatchObject({ code: "unknown_job", retryable: false });
    expect((await viewer.closed).code).toBe(4404);
    const path = jobId === "\ud800" ? "%EF%BF%BD" : encodeURIComponent(jobId);
    if (path !== "." && path !== "..") {
      const { status, json } = await server.get(`/jobs/${path}`);
      // Over 100 characters Fastify answers by itself, before any route.
      if (path.length > 100 && jobId.length > 100) expect(status).toBe(414);
      else {
        expect(status).toBe(404);
        expect(json()).toMatchObject({ code: "unknown_job", status: 404 });
      }
    }
    await undisturbed();
  });

  test("is served once somebody publishes it", async () => {
    const { server } = await startWatched();
    const early = connect(server.wsUrl("soon"));
    expect((await early.closed).code).toBe(4404);
    await server.monitor.publish({ type: "job", jobId: "soon", status: "running" });
    const viewer = connect(server.wsUrl("soon"));
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "soon" });
  });
});

describe("authorize", () => {
  test("that says no looks like an unknown job, to the byte", async () => {
    const forbidding = await startServer({ authorize: () => false });
    await forbidding.monitor.publish({ type: "job", jobId: "secret", status: "running" });
    const lacking = await startServer();
    const answers = await Promise.all(
      [forbidding, lacking].map(async (server) => {
        const viewer = connect(server.wsUrl("secret"));
        await viewer.readToEnd();
        const closed = await viewer.closed;
        return {
          payloads: viewer.payloads.map(String),
          closed,
          polled: problem(await server.poll("secret")),
          conditional: problem(await server.poll("secret", { "if-none-match": "*" })),
          resumed: await (async () => {
            const back = connect(server.wsUrl("secret", { after: "abcdefghijkl.1" }));
            await back.readToEnd();
            return back.payloads.map(String);
          })(),
        };
      }),
    );
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]?.closed.code).toBe(4404);
    expect(answers[0]?.payloads).toHaveLength(1);
    expect(forbidding.monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
  });

  test.each([
    () => {
      throw new Error("secret reason");
    },
    () => Promise.reject(new Error("secret reason")),
  ])("that fails is a refusal that may be retried: 1013, 503 (%#)", async (fail) => {
    let failing = false;
    const { server, undisturbed } = await startWatched({
      authorize: () => (failing ? fail() : true),
    });
    failing = true;
    const viewer = connect(server.wsUrl(JOB));
    expect(await viewer.expect("error")).toMatchObject({ code: "unavailable", retryable: true });
    expect((await viewer.closed).code).toBe(1013);
    const polled = await server.poll(JOB);
    expect(polled.status).toBe(503);
    expect(Number(polled.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    expect(polled.json()).toMatchObject({ code: "unavailable" });
    const listed = await server.get("/jobs");
    expect(listed.status).toBe(503);
    for (const text of [polled.text, listed.text, ...viewer.payloads.map(String)])
      expect(text).not.toContain("secret reason");
    expect(server.lines.filter(({ message }) => message === "authorize failed")).toHaveLength(3);
    failing = false;
    await undisturbed();
  });

  test("that never answers is the same after 5 s", async () => {
    const clock = new ManualClock();
    let asked = 0;
    let silent = false;
    const { server, undisturbed } = await startWatched({
      clock,
      authorize: () => {
        asked += 1;
        return silent ? new Promise<boolean>(() => {}) : true;
      },
    });
    silent = true;
    asked = 0;
    const viewer = connect(server.wsUrl(JOB));
    const polling = server.poll(JOB);
    await until("both are asked", () => asked === 2);
    clock.advance(4_999);
    await turns();
    expect(viewer.frames.filter(({ type }) => type !== "heartbeat")).toEqual([]);
    clock.advance(1);
    expect(await viewer.expect("error")).toMatchObject({ code: "unavailable", retryable: true });
    expect((await viewer.closed).code).toBe(1013);
    expect((await polling).status).toBe(503);
    silent = false;
    await undisturbed();
  });

  test.each([undefined, null, 1, "yes", {}, Promise.resolve("yes")])(
    "that says neither yes nor no says no: %j",
    async (answer) => {
      const server = await startServer({ authorize: () => answer as boolean });
      await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
      expect((await connect(server.wsUrl(JOB)).closed).code).toBe(4404);
      expect((await server.poll(JOB)).status).toBe(404);
      expect((await server.get("/jobs")).status).toBe(404);
    },
  );

  test("is told who asks for what", async () => {
    const requests: unknown[] = [];
    const server = await startServer({
      authorize: ({ jobId, action, transport, headers, query, remoteAddress }) => {
        const token = headers.authorization;
        requests.push({ jobId, action, transport, token, query, remoteAddress });
        return true;
      },
    });
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const viewer = connect(server.wsUrl(JOB, { x: "1" }), [], {
      headers: { Authorization: "ws" },
    });
    await viewer.expect("snapshot");
    await server.get(`/jobs/${JOB}?x=2`, { authorization: "http" });
    await server.get("/jobs?limit=3", { authorization: "list" });
    const from = { remoteAddress: "127.0.0.1" };
    const list = { ...from, transport: "poll", token: "list", query: { limit: 3 } };
    expect(requests).toEqual([
      {
        ...from,
        jobId: JOB,
        action: "watch",
        transport: "ws",
        token: "ws",
        query: { jobId: JOB, x: "1" },
      },
      {
        ...from,
        jobId: JOB,
        action: "watch",
        transport: "poll",
        token: "http",
        query: { x: "2" },
      },
      { ...list, jobId: null, action: "list" },
      { ...list, jobId: JOB, action: "watch" },
    ]);
  });

  test("that answers after the viewer has left seats nobody", async () => {
    let answer = (_: boolean) => {};
    let asked = 0;
    const { server, undisturbed } = await startWatched({
      authorize: ({ query }) => {
        if (query.slow === undefined) return true;
        asked += 1;
        return new Promise<boolean>((resolve) => {
          answer = resolve;
        });
      },
    });
    const viewer = connect(server.wsUrl(JOB, { slow: "1" }));
    await until("it is asked", () => asked === 1);
    viewer.socket.terminate();
    await viewer.closed;
    const events: string[] = [];
    server.monitor.on("join", () => events.push("join"));
    server.monitor.on("leave", () => events.push("leave"));
    await undisturbed(); // a round trip: the server has seen the end, too
    answer(true);
    await undisturbed();
    expect(server.monitor.stats().viewers.ws).toBe(1);
    expect(events.filter((name) => name === "join")).toHaveLength(
      events.filter((name) => name === "leave").length,
    );
  });
});

describe("a request that makes no sense", () => {
  const CASES: [string, string, number, ErrorCode][] = [
    ["an empty jobId", "/ws?jobId=", 4400, "bad_request"],
    ["an unknown mode", `/ws?jobId=${JOB}&mode=nonsense`, 4400, "bad_request"],
    ["an empty mode", `/ws?jobId=${JOB}&mode=`, 4400, "bad_request"],
  ];
  test.each(CASES)("is closed: %s", async (_name, path, close, code) => {
    const { server, undisturbed } = await startWatched();
    const viewer = connect(`ws://127.0.0.1:${server.port}${path}`);
    expect(await viewer.readToEnd()).toMatchObject([{ type: "error", code, retryable: false }]);
    expect((await viewer.closed).code).toBe(close);
    await undisturbed();
  });

  test("is closed 4406 when it offers another version only", async () => {
    const { server, undisturbed } = await startWatched();
    // `ws` gives up by itself when the server takes none of the offered ones: this is a raw client.
    const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`, {
      "Sec-WebSocket-Protocol": "workflow-monitor.v9",
    });
    expect(client.status).toBe(101);
    expect(client.text().toLowerCase()).not.toContain("sec-websocket-protocol");
    await until("it is closed", () => client.ended());
    expect(client.text()).toContain('"code":"unsupported_version"');
    expect(client.received().includes(Buffer.from([4406 >> 8, 4406 & 255]))).toBe(true);
    await undisturbed();
  });

  test.each([
    { offered: [SUBPROTOCOL], echoed: SUBPROTOCOL },
    { offered: ["workflow-monitor.v9", SUBPROTOCOL], echoed: SUBPROTOCOL },
    { offered: ["token.abc", SUBPROTOCOL], echoed: SUBPROTOCOL },
    { offered: [], echoed: "" },
  ])("echoes its own subprotocol only: $offered", async ({ offered, echoed }) => {
    const { server } = await startWatched();
    const viewer = connect(server.wsUrl(JOB), offered);
    await viewer.expect("snapshot");
    expect(viewer.socket.protocol).toBe(echoed);
  });

  test("does not echo a foreign subprotocol, which may be a token", async () => {
    const { server } = await startWatched();
    const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`, {
      "Sec-WebSocket-Protocol": "secret-token",
    });
    expect(client.status).toBe(101);
    await until("it is served", () => client.text().includes('"type":"snapshot"'));
    expect(client.text()).not.toContain("secret-token");
  });

  test("is refused by its Upgrade headers without harm", async () => {
    const { server, undisturbed } = await startWatched();
    for (const headers of [
      { "Sec-WebSocket-Key": "short" },
      { "Sec-WebSocket-Version": "7" },
      { Upgrade: "h2c" },
    ] as Record<string, string>[]) {
      const { status } = await rawUpgrade(server.port, `/ws?jobId=${JOB}`, headers);
      expect(status).toBeGreaterThanOrEqual(400);
    }
    const lone = await rawUpgrade(server.port, "//[");
    expect(lone.status).toBeGreaterThanOrEqual(400);
    await undisturbed();
  });
});

describe("an Origin", () => {
  const path = `/ws?jobId=${JOB}`;
  const upgrade = async (server: TestServer, origin?: string, host?: string) => {
    const { status, text } = await rawUpgrade(server.port, path, {
      ...(origin !== undefined && { Origin: origin }),
      ...(host !== undefined && { Host: host }),
    });
    if (status !== 101) expect(text()).not.toContain("snapshot");
    return status;
  };

  test("must be of the same host when there is no list", async () => {
    const { server, undisturbed } = await startWatched();
    const host = `127.0.0.1:${server.port}`;
    expect(await upgrade(server, undefined)).toBe(101);
    expect(await upgrade(server, `http://${host}`)).toBe(101);
    expect(await upgrade(server, `https://${host}`)).toBe(101);
    expect(await upgrade(server, "http://shop.example:81", "shop.example:81")).toBe(101);
    for (const origin of [
      "https://evil.example",
      "http://127.0.0.1",
      "http://127.0.0.1:1",
      `http://${host}.evil.example`,
      `http://evil.example/${host}`,
      "null",
      "",
      "nonsense",
    ]) {
      expect({ origin, status: await upgrade(server, origin) }).toEqual({ origin, status: 403 });
    }
    expect(server.monitor.stats().viewers.ws).toBeLessThanOrEqual(5);
    await undisturbed();
  });

  test("is compared with the raw Host header, never with a forwarded one", async () => {
    const { server } = await startWatched();
    const { status } = await rawUpgrade(server.port, path, {
      Origin: "https://evil.example",
      "X-Forwarded-Host": "evil.example",
      Forwarded: "host=evil.example",
    });
    expect(status).toBe(403);
  });

  test("must be on the list when there is one", async () => {
    const { server, undisturbed } = await startWatched({
      origins: ["https://app.example", "http://localhost:8080"],
    });
    expect(await upgrade(server, "https://app.example")).toBe(101);
    expect(await upgrade(server, "http://localhost:8080")).toBe(101);
    expect(await upgrade(server, undefined)).toBe(101);
    for (const origin of [
      `http://127.0.0.1:${server.port}`,
      "http://app.example",
      "https://app.example:444",
      "https://app.example.evil.example",
      "https://sub.app.example",
      "null",
    ]) {
      expect({ origin, status: await upgrade(server, origin) }).toEqual({ origin, status: 403 });
    }
    await undisturbed();
  });
});

describe("an upgrade of another path", () => {
  test("is a 404 when nobody else could answer it", async () => {
    const { server, undisturbed } = await startWatched();
    for (const path of ["/", "/ws/", "/wsx", "/other?path=/ws", "/jobs/job"]) {
      const { status } = await rawUpgrade(server.port, path);
      expect({ path, status }).toEqual({ path, status: 404 });
    }
    await undisturbed();
  });

  test.each(["before", "after"])("is left to another handler, set %s ours", async (when) => {
    const server = createServer();
    const monitor = createWorkflowMonitor({ authorize: allowAll });
    const others = new WebSocketServer({ noServer: true });
    const other = () =>
      server.on("upgrade", (request, socket, head) => {
        if (request.url === "/teapot") socket.end("HTTP/1.1 418 I'm a teapot\r\n\r\n");
        else if (request.url === "/other") {
          others.handleUpgrade(request, socket, head, (ws) => ws.send('{"type":"other"}'));
        }
      });
    if (when === "before") other();
    const adapter = attachWebSocket(server, { monitor });
    if (when === "after") other();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(async () => {
      await monitor.close();
      await adapter.close();
      for (const client of others.clients) client.terminate();
      await new Promise((resolve) => server.close(resolve));
    });
    const { port } = server.address() as AddressInfo;
    await monitor.publish({ type: "job", jobId: JOB, status: "running" });

    expect((await rawUpgrade(port, "/teapot")).status).toBe(418);
    const theirs = connect(`ws://127.0.0.1:${port}/other`);
    expect(await theirs.next()).toEqual({ type: "other" });
    const ours = connect(`ws://127.0.0.1:${port}/ws?jobId=${JOB}`);
    expect(await ours.expect("snapshot")).toMatchObject({ jobId: JOB });
    expect((await rawUpgrade(port, "/teapot")).status).toBe(418);
  });

  test("is ours with another path option, or when the host owns the upgrade", async () => {
    const server = createServer();
    const monitor = createWorkflowMonitor({ authorize: allowAll });
    const adapter = attachWebSocket(server, { monitor, path: "/live/jobs" });
    const owned = createServer();
    const own = attachWebSocket(null, { monitor });
    owned.on("upgrade", own.handleUpgrade);
    for (const one of [server, owned]) {
      await new Promise<void>((resolve) => one.listen(0, "127.0.0.1", resolve));
    }
    onTestFinished(async () => {
      await monitor.close();
      await Promise.all([adapter.close(), own.close()]);
      for (const one of [server, owned]) await new Promise((resolve) => one.close(resolve));
    });
    await monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const port = (one: typeof server) => (one.address() as AddressInfo).port;
    const viewer = connect(`ws://127.0.0.1:${port(server)}/live/jobs?jobId=${JOB}`);
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: JOB });
    expect((await rawUpgrade(port(server), `/ws?jobId=${JOB}`)).status).toBe(404);
    const other = connect(`ws://127.0.0.1:${port(owned)}/any/path?jobId=${JOB}`);
    expect(await other.expect("snapshot")).toMatchObject({ jobId: JOB });
  });
});

describe("a message", () => {
  const CASES: [string, string | Buffer, number][] = [
    ["that is binary", Buffer.from('{"type":"ping"}'), 4400],
    ["that is garbage", "garbage", 4400],
    ["that is empty", "", 4400],
    ["that is half a JSON text", '{"type":"ping"', 4400],
    ["that is no object", '"ping"', 4400],
    ["that is null", "null", 4400],
    ["that is an array", '[{"type":"ping"}]', 4400],
    ["of 1 MB", `{"type":"ping","x":"${"x".repeat(1_000_000)}"}`, 1009],
    ["just over 4 KiB", `{"type":"ping","x":"${"x".repeat(4_096)}"}`, 1009],
  ];
  test.each(CASES)("%s closes its own connection only", async (_name, message, code) => {
    const { server, undisturbed } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    viewer.socket.send(message);
    const read = await viewer.readToEnd();
    expect((await viewer.closed).code).toBe(code);
    if (code === 4400) {
      expect(read).toMatchObject([{ type: "error", code: "bad_request", retryable: false }]);
      expect("jobId" in (read[0] as Frame)).toBe(false);
    }
    await undisturbed();
    await until("it has left", () => server.monitor.stats().viewers.ws === 1);
    const line = server.lines.find(({ message }) => message === "viewer disconnected");
    if (code === 4400) expect(line?.context).toMatchObject({ jobId: JOB, code });
  });

  test("that is too long is logged with the code that closed the connection", async () => {
    const { server } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    viewer.socket.send("x".repeat(5_000));
    expect((await viewer.closed).code).toBe(1009);
    await until("it has left", () => server.monitor.stats().viewers.ws === 1);
    const line = server.lines.find(({ message }) => message === "viewer disconnected");
    expect(line?.context).toMatchObject({ jobId: JOB, code: 1009 });
  });

  test("of invalid UTF-8 closes 1007", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    viewer.socket.write(clientFrame(Opcode.text, Buffer.from([0x22, 0xc3, 0x28, 0x22])));
    await until("it is closed", () => viewer.ended());
    expect(viewer.received().includes(Buffer.from([0x88, 2, 1007 >> 8, 1007 & 255]))).toBe(true);
    await undisturbed();
  });

  test("that is not masked, or of a reserved opcode, closes 1002", async () => {
    const { server, undisturbed } = await startWatched();
    for (const bytes of [Buffer.from([0x81, 2, 0x7b, 0x7d]), clientFrame(3, "{}")]) {
      const viewer = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
      viewer.socket.write(bytes);
      await until("it is closed", () => viewer.ended());
      expect(viewer.received().includes(Buffer.from([0x88, 2, 1002 >> 8, 1002 & 255]))).toBe(true);
    }
    await undisturbed();
  });

  test("of an unknown type, or without one, is ignored", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    for (const message of [
      '{"type":"from the future"}',
      '{"type":5}',
      "{}",
      '{"type":{"toString":1}}',
      '{"__proto__":{"type":"ping"}}',
    ]) {
      viewer.socket.send(message);
    }
    viewer.socket.send('{"type":"ping","unknown":"field"}');
    await until("the ping is answered", () => viewer.frames.length === 2);
    expect(viewer.frames[1]).toEqual({ type: "heartbeat", timestamp: expect.any(String) });
    await undisturbed();
    expect((await viewer.expect("update")).job?.message).toBe("undisturbed 1");
  });

  test("{ type: 'ping' } is answered by a heartbeat", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    for (let n = 1; n <= 3; n++) {
      const before = Date.now();
      viewer.socket.send('{"type":"ping"}');
      await until("it is answered", () => viewer.frames.length === n + 1);
      const frame = viewer.frames.at(-1);
      expect(frame).toEqual({ type: "heartbeat", timestamp: expect.any(String) });
      if (frame?.type === "heartbeat") {
        expect(Date.parse(frame.timestamp)).toBeGreaterThanOrEqual(before);
      }
    }
    await undisturbed();
  });

  test("may come in fragments, and byte by byte", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await rawUpgrade(server.port, `/ws?jobId=${JOB}`);
    const beats = () => viewer.text().split('"type":"heartbeat"').length - 1;
    viewer.socket.write(clientFrame(Opcode.text, '{"type"', false));
    viewer.socket.write(clientFrame(Opcode.pong, "between"));
    viewer.socket.write(clientFrame(Opcode.continuation, ':"pi', false));
    viewer.socket.write(clientFrame(Opcode.continuation, 'ng"}', true));
    await until("the fragments are answered", () => beats() === 1);
    for (const byte of clientFrame(Opcode.text, '{"type":"ping"}')) {
      viewer.socket.write(Buffer.from([byte]));
      await turns(2);
    }
    await until("the bytes are answered", () => beats() === 2);
    const two = Buffer.concat(range(1, 2).map(() => clientFrame(Opcode.text, '{"type":"ping"}')));
    viewer.socket.write(two);
    await until("both are answered", () => beats() === 4);
    await undisturbed();
  });

  test("before the first frame does not come before it", async () => {
    const { server, undisturbed } = await startWatched({
      authorize: ({ query }) =>
        query.slow === undefined || new Promise((resolve) => setTimeout(resolve, 50, true)),
    });
    const viewer = await server.watch(JOB, { slow: "1" } as Record<string, string>);
    viewer.socket.send('{"type":"ping"}');
    await viewer.expect("snapshot");
    expect(viewer.frames[0]?.type).toBe("snapshot");
    await undisturbed();
  });

  test("after the end of the connection is nobody's", async () => {
    const { server, undisturbed } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    for (let n = 0; n < 20; n++) viewer.socket.send("garbage");
    expect(await viewer.readToEnd()).toHaveLength(1);
    expect((await viewer.closed).code).toBe(4400);
    await undisturbed();
  });
});

describe("a cursor that is nobody's", () => {
  /** A store that counts what it is asked. */
  function counted(): { store: JobStore; reads: () => number } {
    const store = memoryStore();
    let reads = 0;
    const read: JobStore["read"] = (jobId, after) => {
      reads += 1;
      return store.read(jobId, after);
    };
    return { store: { ...store, read }, reads: () => reads };
  }

  const GARBAGE = {
    "a negative revision": (epoch: string) => `${epoch}.-1`,
    NaN: (epoch: string) => `${epoch}.NaN`,
    "a fraction": (epoch: string) => `${epoch}.1.5`,
    "an exponent": (epoch: string) => `${epoch}.1e0`,
    "a leading zero": (epoch: string) => `${epoch}.01`,
    "2^53 + 1": (epoch: string) => `${epoch}.9007199254740993`,
    "10 KB": (epoch: string) => `${epoch}.${"1".repeat(10_240)}`,
    "an empty text": () => "",
    "another shape": () => "12345",
    "an upper case epoch": (epoch: string) => `${epoch.toUpperCase().replace(/\d/g, "A")}.1`,
    "a quoted one": (epoch: string) => `"${epoch}.1"`,
    "a NUL": (epoch: string) => `${epoch}.1\0`,
  };
  test.each(Object.entries(GARBAGE))("is answered at once: %s", async (_name, make) => {
    const { store, reads } = counted();
    const { server, undisturbed } = await startWatched({ store });
    const { epoch } = await server.settled(JOB);
    const before = reads();
    const viewer = await server.watch(JOB, { after: make(epoch) });
    expect(await viewer.expect("snapshot")).toMatchObject({
      resumed: false,
      events: [],
      job: await server.monitor.get(JOB),
    });
    expect(reads() - before).toBeLessThanOrEqual(1); // that of the line above
    await undisturbed();
    expect((await viewer.expect("update")).job?.message).toBe("undisturbed 1");
  });

  test("is answered after a look at the store: ahead of the head, of another epoch or job", async () => {
    const { server, undisturbed } = await startWatched();
    const { epoch, revision } = await server.settled(JOB);
    const other = await server.monitor.publish({ type: "job", jobId: "other", status: "running" });
    for (const after of [
      `${epoch}.${revision + 1}`,
      `${epoch}.${Number.MAX_SAFE_INTEGER}`,
      printCursor(other),
      "zzzzzzzzzzzz.1",
      "zzzzzzzzzzzz.0",
    ]) {
      const since = Date.now();
      const viewer = await server.watch(JOB, { after });
      const first = await viewer.expect("snapshot");
      expect({ after, resumed: first.resumed, events: first.events }).toEqual({
        after,
        resumed: false,
        events: [],
      });
      expect(first.job).toEqual(await server.monitor.get(JOB));
      expect(Date.now() - since).toBeLessThan(2_000);
      viewer.socket.close();
    }
    await undisturbed();
  }, 15_000);

  test("makes nobody wait but its own viewer, however many come", async () => {
    const { store, reads } = counted();
    const { server, undisturbed } = await startWatched({ store });
    const before = reads();
    const foreign = range(1, 100).map((n) =>
      connect(server.wsUrl(JOB, { after: `zzzzzzzzzzzz.${n}` })),
    );
    await undisturbed();
    const fresh = await server.watch(JOB);
    await fresh.expect("snapshot");
    for (const viewer of foreign) {
      expect(await viewer.expect("snapshot")).toMatchObject({ resumed: false });
    }
    // One read of the poll in undisturbed(); at most one a second of the room.
    expect(reads() - before).toBeLessThanOrEqual(4);
  });

  test("revision 0 of this epoch has missed everything", async () => {
    const { server } = await startWatched();
    const { epoch } = await server.monitor.publish({ type: "job", jobId: JOB, message: "2" });
    const viewer = await server.watch(JOB, { after: `${epoch}.0` });
    expect(await viewer.expect("snapshot")).toMatchObject({
      resumed: true,
      events: [
        { type: "job", status: "running" },
        { type: "job", message: "2" },
      ],
    });
  });
});

describe("a bad event of an engine", () => {
  const hostile = (text: string): unknown => JSON.parse(text);
  const stage = (fields: object) => ({ jobId: JOB, stage: "build", ...fields });
  const BAD: [string, string, unknown][] = [
    ["null", "stage", null],
    ["undefined", "stage", undefined],
    ["a text", "stage", "build"],
    ["a number", "job", 42],
    ["an array", "job", []],
    ["a function", "job", () => {}],
    ["an empty object", "job", {}],
    ["no jobId", "stage", { stage: "build", status: "running" }],
    ["a jobId that is a number", "job", { jobId: 42 }],
    ["an empty jobId", "job", { jobId: "" }],
    ["a jobId .", "job", { jobId: "." }],
    ["a jobId ..", "job", { jobId: ".." }],
    ["a jobId with a line break", "job", { jobId: "a\r\nb" }],
    ["a jobId that is too long", "job", { jobId: "ü".repeat(17) }],
    ["a jobId __proto__", "job", { jobId: "__proto__", status: "running" }],
    ["a jobId of half a character", "job", { jobId: "\ud83d" }],
    ["no stage", "stage", { jobId: JOB, status: "running" }],
    ["an empty stage", "stage", stage({ stage: "" })],
    ["a stage that is too long", "stage", stage({ stage: "s".repeat(129) })],
    ["a stage constructor", "stage", stage({ stage: "constructor" })],
    ["a stage with a NUL", "stage", stage({ stage: "a\0b" })],
    ["an unknown status", "stage", stage({ status: "exploded" })],
    ["a status that is an object", "stage", stage({ status: {} })],
    ["progress NaN", "stage", stage({ progress: Number.NaN })],
    ["progress Infinity", "stage", stage({ progress: Number.POSITIVE_INFINITY })],
    ["progress as text", "stage", stage({ progress: "50" })],
    ["progress without current", "stage", stage({ progress: { total: 5 } })],
    ["attempt 0", "stage", stage({ attempt: 0 })],
    ["attempt 1.5", "stage", stage({ attempt: 1.5 })],
    ["run -1", "job", { jobId: JOB, run: -1 }],
    ["run 2^53", "job", { jobId: JOB, run: 2 ** 53 }],
    ["a timestamp that is none", "stage", stage({ timestamp: "yesterday" })],
    ["a timestamp Invalid Date", "stage", stage({ timestamp: new Date(Number.NaN) })],
    ["a message that is a number", "stage", stage({ message: 5 })],
    ["labels that are numbers", "job", { jobId: JOB, labels: { a: 1 } }],
    ["an own field __proto__", "job", hostile(`{"jobId":"${JOB}","__proto__":{"a":1}}`)],
    ["metadata with __proto__", "job", hostile(`{"jobId":"${JOB}","metadata":{"__proto__":1}}`)],
    ["a plan without stages", "plan", { jobId: JOB }],
    ["a plan of texts", "plan", { jobId: JOB, stages: ["a"] }],
    [
      "a plan that names one twice",
      "plan",
      { jobId: JOB, stages: [{ stage: "a" }, { stage: "a" }] },
    ],
    ["a weight below 0", "plan", { jobId: JOB, stages: [{ stage: "a", weight: -1 }] }],
    [
      "a plan of 5,001 stages",
      "plan",
      {
        jobId: JOB,
        stages: range(1, 5_001).map((n) => ({ stage: `s${n}` })),
      },
    ],
    [
      "a getter that throws",
      "stage",
      {
        jobId: JOB,
        get stage(): string {
          throw new Error("a trap");
        },
      },
    ],
    [
      "a proxy that throws",
      "job",
      new Proxy(
        {},
        {
          get: () => {
            throw new Error("a trap");
          },
          getOwnPropertyDescriptor: () => {
            throw new Error("a trap");
          },
        },
      ),
    ],
  ];

  test.each(BAD)(
    "is refused, counted and reported, and nothing is thrown: %s",
    async (_, name, event) => {
      const { server, undisturbed } = await startWatched();
      const errors: WorkflowMonitorError[] = [];
      server.monitor.on("error", (error) => errors.push(error));
      const emit = server.engine.emit.bind(server.engine) as unknown as (
        name: string,
        event: unknown,
      ) => boolean;
      const head = await server.settled(JOB);
      expect(() => emit(name, event)).not.toThrow();
      expect(await server.settled(JOB)).toEqual(head);
      expect(server.monitor.stats().refused).toBe(1);
      expect(errors).toMatchObject([{ name: "WorkflowMonitorError", code: "refused" }]);
      const lines = server.lines.filter(({ message }) => message === "event refused or shortened");
      expect(lines).toMatchObject([
        { level: "warn", context: { code: "refused", reason: errors[0]?.message } },
      ]);
      await undisturbed();
    },
  );

  test("does not keep the good ones around it from being taken", async () => {
    const { server } = await startWatched();
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    const emit = server.engine.emit.bind(server.engine) as unknown as Engine["emit"];
    emit("stage", stage({ status: "running" }) as never);
    emit("stage", stage({ status: "exploded" }) as never);
    emit("stage", stage({ status: "completed" }) as never);
    expect(await viewer.expect("update")).toMatchObject({ event: { status: "running" } });
    expect(await viewer.expect("update")).toMatchObject({ event: { status: "completed" } });
  });

  test("by the thousand is counted one by one and logged a bounded number of times", async () => {
    const clock = new ManualClock();
    const { server, undisturbed } = await startWatched({ clock });
    let told = 0;
    server.monitor.on("error", () => {
      told += 1;
    });
    const emit = server.engine.emit.bind(server.engine) as unknown as (
      name: string,
      event: unknown,
    ) => boolean;
    for (let n = 0; n < 1_000; n++) emit("stage", { jobId: JOB });
    expect(server.monitor.stats().refused).toBe(1_000);
    expect(told).toBe(1_000);
    expect(server.lines.filter(({ level }) => level === "warn")).toHaveLength(20);
    clock.advance(1_000);
    emit("stage", { jobId: JOB });
    expect(server.lines.at(-2)).toMatchObject({ context: { count: 980 } });
    await undisturbed();
  });

  test("and an error listener that throws break nothing", async () => {
    const { server, undisturbed } = await startWatched();
    server.monitor.on("error", () => {
      throw new Error("of the host");
    });
    server.monitor.on("update", async () => {
      throw new Error("of the host");
    });
    server.monitor.on("join", () => {
      throw new Error("of the host");
    });
    server.engine.emit("stage", { jobId: JOB, stage: "" });
    const viewer = await server.watch(JOB);
    await viewer.expect("snapshot");
    await undisturbed();
    const failures = server.lines.filter(({ message }) => message === "a listener failed");
    expect(new Set(failures.map(({ context }) => context.event))).toEqual(
      new Set(["error", "update", "join"]),
    );
  });
});

describe("GET /jobs", () => {
  async function startWithJobs(count: number, options: ServerOptions = {}) {
    const server = await startServer(options);
    await Promise.all(
      range(1, count).map((n) =>
        server.monitor.publish({
          type: "job",
          jobId: `job ${n}`,
          status: n % 3 ? "running" : "failed",
          labels: { parity: n % 2 ? "odd" : "even", third: String(n % 3) },
          // Three at a time share a moment: the id decides among them.
          timestamp: Date.UTC(2026, 0, 1, 0, 0, Math.floor(n / 3)),
        }),
      ),
    );
    return server;
  }

  const BAD = [
    "limit=0",
    "limit=-1",
    "limit=201",
    "limit=x",
    "limit=1.5",
    "status=exploded",
    "status=",
    "label=nocolon",
    "label=:empty",
    "label=a:1&label=a:2",
    `cursor=${"x".repeat(513)}`,
    range(1, 9)
      .map((n) => `label=k${n}:v`)
      .join("&"),
  ];
  test.each(BAD)("refuses ?%s", async (query) => {
    const server = await startWithJobs(3);
    const { status, headers, json } = await server.get(`/jobs?${query}`);
    expect(status).toBe(400);
    expect(headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(headers["cache-control"]).toBe("no-store");
    expect(json()).toMatchObject({ code: "bad_request", status: 400 });
    expect((await server.get("/jobs")).status).toBe(200);
  });

  test("has 50 rows unless told otherwise, at most 200, without stages", async () => {
    const server = await startWithJobs(120);
    const page = (await server.get("/jobs")).json<JobPage>();
    expect(page.jobs).toHaveLength(50);
    const { stages, ...row } = (await server.monitor.get("job 120")) ?? { stages: [] };
    expect(page.jobs[0]).toEqual(row);
    const all = (await server.get("/jobs?limit=200")).json<JobPage>();
    expect(all.jobs).toHaveLength(120);
    expect(all.next).toBeNull();
  });

  test.each([1, 7, 50, 119, 120])(
    "pages over 120 jobs without repeating or leaving out, %i at a time",
    async (limit) => {
      const server = await startWithJobs(120);
      const ids: string[] = [];
      let next: string | null = "";
      let pages = 0;
      while (next !== null) {
        const cursor: string = next === "" ? "" : `&cursor=${encodeURIComponent(next)}`;
        const page: JobPage = (await server.get(`/jobs?limit=${limit}${cursor}`)).json<JobPage>();
        ids.push(...page.jobs.map(({ jobId }) => jobId));
        next = page.next;
        pages += 1;
        // What comes meanwhile is newer than what is still to come.
        if (pages <= 3) await server.monitor.publish({ type: "job", jobId: `late ${pages}` });
      }
      expect(pages).toBe(Math.ceil(120 / limit));
      expect(new Set(ids).size).toBe(ids.length);
      expect(new Set(ids)).toEqual(new Set(range(1, 120).map((n) => `job ${n}`)));
      const listed = await server.monitor.list({ limit: 200 });
      const expected = listed.jobs.map(({ jobId }) => jobId).filter((id) => id.startsWith("job"));
      expect(ids).toEqual(expected);
    },
  );

  test("filters by status and by labels, and pages over what is left", async () => {
    const server = await startWithJobs(120);
    const list = async (query: string) => (await server.get(`/jobs?${query}`)).json<JobPage>();
    const failed = await list("status=failed&limit=200");
    expect(failed.jobs).toHaveLength(40);
    expect(failed.jobs.every(({ status }) => status === "failed")).toBe(true);
    const odd = await list("label=parity:odd&limit=200");
    expect(odd.jobs).toHaveLength(60);
    const both = await list("label=parity:odd&label=third:0&status=failed&limit=15");
    expect(both.jobs).toHaveLength(15);
    const rest = await list(
      `label=parity:odd&label=third:0&status=failed&limit=15&cursor=${encodeURIComponent(both.next ?? "")}`,
    );
    expect(rest.jobs).toHaveLength(5);
    expect(rest.next).toBeNull();
    for (const query of ["label=parity:none", "label=toString:x", "status=waiting"]) {
      expect(await list(query)).toEqual({ jobs: [], next: null });
    }
  });

  test("keeps colons, spaces and unicode of a label's value", async () => {
    const server = await startServer();
    const labels = { größe: "a:b c/ü🚀" };
    await server.monitor.publish({ type: "job", jobId: JOB, labels });
    const label = encodeURIComponent("größe:a:b c/ü🚀");
    const { jobs } = (await server.get(`/jobs?label=${label}`)).json<JobPage>();
    expect(jobs).toMatchObject([{ jobId: JOB, labels }]);
  });

  test("leaves out the rows that the viewer may not watch, and still reaches the others", async () => {
    const server = await startWithJobs(120, {
      authorize: async ({ jobId, headers }) =>
        jobId === null || headers.authorization === "root" || Number(jobId.slice(4)) % 10 === 0,
    });
    const ids: string[] = [];
    const lengths: number[] = [];
    let next: string | null = "";
    while (next !== null) {
      const cursor: string = next === "" ? "" : `&cursor=${encodeURIComponent(next)}`;
      const page: JobPage = (await server.get(`/jobs?limit=5${cursor}`)).json<JobPage>();
      ids.push(...page.jobs.map(({ jobId }) => jobId));
      lengths.push(page.jobs.length);
      next = page.next;
    }
    expect(lengths).toEqual([5, 5, 2]);
    expect(new Set(ids)).toEqual(new Set(range(1, 12).map((n) => `job ${n * 10}`)));
    const root = await server.get("/jobs?limit=200", { authorization: "root" });
    expect(root.json<JobPage>().jobs).toHaveLength(120);
  });

  test("is forbidden as a whole when authorize says so", async () => {
    const server = await startServer({ authorize: ({ action }) => action !== "list" });
    const { status, json } = await server.get("/jobs");
    expect(status).toBe(404);
    expect(json()).toMatchObject({ code: "unknown_job" });
  });

  test("of a store that cannot list is 501", async () => {
    const { list, ...store } = memoryStore();
    const server = await startServer({ store });
    const { status, json } = await server.get("/jobs");
    expect(status).toBe(501);
    expect(json()).toMatchObject({ code: "unsupported" });
  });
});

describe("a job id", () => {
  const IDS = [
    "a/b/c",
    "/",
    "100%",
    "%2F",
    "%00",
    "später",
    "two words",
    " ",
    "🚀👩‍👩‍👧",
    "a?b#c&d=e",
    "a+b",
    "a.b..c",
    "...",
    "quote\"s'",
    "back\\slash",
    "<script>",
    "ジョブ",
    "toString",
    "x".repeat(100),
    "ü".repeat(16),
  ];
  test.each(IDS)("works over both transports: %j", async (jobId) => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId, status: "running" });
    const viewer = await server.watch(jobId);
    const first = await viewer.expect("snapshot");
    expect(first.jobId).toBe(jobId);
    expect(first.job.jobId).toBe(jobId);
    const polled = await server.poll(jobId);
    expect(polled.status).toBe(200);
    expect(polled.json()).toEqual(first.job);
    server.engine.emit("stage", { jobId, stage: "🚀/%", status: "running" });
    expect(await viewer.expect("update")).toMatchObject({ jobId, event: { stage: "🚀/%" } });
    const { jobs } = (await server.get("/jobs")).json<JobPage>();
    expect(jobs.map((job) => job.jobId)).toEqual([jobId]);
    viewer.socket.close();
    await inTime("the close", viewer.closed);
  });

  test("that is not percent-encoded well is refused, and no more", async () => {
    const { server, undisturbed } = await startWatched();
    for (const path of ["/jobs/%", "/jobs/%E0%A4%A", "/jobs/%zz"]) {
      const { status } = await server.get(path);
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
    }
    const viewer = connect(`ws://127.0.0.1:${server.port}/ws?jobId=%E0%A4%A`);
    expect((await viewer.closed).code).toBe(4404);
    await undisturbed();
  });
});

describe("too many viewers", () => {
  test("of one job are told to come back: 4429", async () => {
    const server = await startServer({ limits: { viewersPerJob: 2 } });
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const [one] = [await server.watch(JOB), await server.watch(JOB)];
    const third = connect(server.wsUrl(JOB));
    expect(await third.expect("error")).toMatchObject({
      jobId: JOB,
      code: "too_many_viewers",
      retryable: true,
      retryAfterMs: expect.any(Number),
    });
    expect((await third.closed).code).toBe(4429);
    one.socket.close();
    await until("one has left", () => server.monitor.stats().viewers.ws === 1);
    const fourth = await server.watch(JOB);
    expect(await fourth.expect("snapshot")).toMatchObject({ jobId: JOB });
  });

  test("of one address are, too, when that limit is on", async () => {
    const server = await startServer({ limits: { viewersPerAddress: 2 } });
    for (const n of range(1, 3)) {
      await server.monitor.publish({ type: "job", jobId: `job ${n}`, status: "running" });
    }
    const one = await server.watch("job 1");
    await server.watch("job 2");
    expect((await connect(server.wsUrl("job 3")).closed).code).toBe(4429);
    one.socket.close();
    await until("one has left", () => server.monitor.stats().viewers.ws === 1);
    const third = await server.watch("job 3");
    await third.expect("snapshot");
  });
});
