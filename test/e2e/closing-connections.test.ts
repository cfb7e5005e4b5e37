import { once } from "node:events";
import { type ClientHttp2Session, connect as http2Connect } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify, { type FastifyInstance } from "fastify";
import { describe, onTestFinished, test } from "vitest";
import { certificate } from "../support/certificate.js";
import { range } from "../support/frames.js";
import { rawConnect } from "../support/raw.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";
/** `drainMs` and a second, and time for a slow machine. */
const IN_TIME_MS = 6_000;
/** Longer than what does not move may stay. */
const LONG_MS = 2_500;

/** A host with routes of its own: one that answers when it is told to, one that echoes. */
async function start(options: { tls?: boolean; http2?: boolean } = {}) {
  const secure = options.tls ? { https: certificate() } : {};
  const app = Fastify({ ...secure, ...(options.http2 && { http2: true }) } as object);
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  const held: (() => void)[] = [];
  app.get("/held", () => new Promise((resolve) => held.push(() => resolve("held"))));
  app.post("/echo", async ({ body }) => body);
  app.get("/early", async () => "early");
  await app.register(workflowMonitorHttp, { monitor });
  attachWebSocket(app.server, { monitor });
  onTestFinished(async () => {
    await inTime("app.close()", app.close(), IN_TIME_MS);
    await monitor.close();
  });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const stages = range(1, 2_000).map((n) => ({ stage: `stage ${n}`, name: "n".repeat(200) }));
  await monitor.publish({ type: "plan", jobId: "big", stages });
  await monitor.publish({ type: "job", jobId: JOB, status: "running" });
  return { app, monitor, held, port: (app.server.address() as AddressInfo).port };
}

const closes = (app: FastifyInstance) => inTime("app.close()", app.close(), IN_TIME_MS);

const head = (path: string, headers = "", method = "GET") =>
  `${method} ${path} HTTP/1.1\r\nHost: x\r\n${headers}`;
const get = (path: string, headers = "") => `${head(path, headers)}\r\n`;
const SSE = "Accept: text/event-stream\r\n";
const JSON_BODY = "Content-Type: application/json\r\nContent-Length: 7\r\n";
const UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

/** What a client has sent when it stops, and whether it reads. */
const CLIENTS: [string, string, { reads?: boolean }?][] = [
  ["nothing at all", ""],
  ["half a request line", "GET /jobs/j"],
  ["a head without an end", head(`/jobs/${JOB}`)],
  ["half an upgrade", head("/ws", UPGRADE)],
  ["a request, and half of the next one", get(`/jobs/${JOB}`) + head(`/jobs/${JOB}`)],
  ["a poll whose body does not come", get(`/jobs/${JOB}`, "Content-Length: 1000\r\n")],
  [
    "a long-poll whose body does not come",
    get(`/jobs/${JOB}?wait=20`, "Content-Length: 9\r\nIf-None-Match: *\r\n"),
  ],
  ["a stream whose body does not come", get(`/jobs/${JOB}/events`, `${SSE}Content-Length: 9\r\n`)],
  [
    "a request of the host's whose body does not come",
    `${head("/echo", JSON_BODY, "POST")}\r\n{"a`,
  ],
  ["one that the host has answered before its body", get("/early", "Content-Length: 9\r\n")],
  ["big answers that it does not read", get("/jobs/big").repeat(20), { reads: false }],
  ["a big stream that it does not read", get("/jobs/big/events", SSE), { reads: false }],
  ["pipelined streams", get(`/jobs/${JOB}/events`, SSE).repeat(20)],
  ["a stream, and a poll behind it", get(`/jobs/${JOB}/events`, SSE) + get(`/jobs/${JOB}`)],
  [
    "a poll behind a stream that it does not read",
    get("/jobs/big/events", SSE) + get("/jobs/big"),
    { reads: false },
  ],
  ["lists", get("/jobs?limit=200").repeat(50), { reads: false }],
];

describe.each([
  ["H5", true],
  ["S12", false],
])("[%s] app.close() (TLS: %s) does not wait for a client that has sent", (_, tls) => {
  test.each(CLIENTS)("%s", { timeout: 15_000 }, async (_name, text, { reads = true } = {}) => {
    const { app, port } = await start({ tls });
    const client = await rawConnect(port, { tls });
    if (!reads) client.socket.pause();
    client.socket.write(text);
    const last = await rawConnect(port, { tls }); // a round trip: what was sent before it is there
    last.socket.write(get(`/jobs/${JOB}`));
    await until("it is answered", () => last.text().includes("\r\n\r\n"));
    await closes(app);
    client.socket.resume();
    await until("it is ended", () => client.ended());
  });
});

test("[H5] app.close() does not wait for a TLS handshake that does not come", async () => {
  const { app, port } = await start({ tls: true });
  const accepted = once(app.server, "connection");
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {}).resume();
  await accepted;
  const closed = once(socket, "close");
  await closes(app);
  await closed;
});

describe.each([true, false])("[S12] app.close() leaves to the host (TLS: %s)", (tls) => {
  test("a request that has arrived, however long its answer takes", async () => {
    const { app, port, held } = await start({ tls });
    const client = await rawConnect(port, { tls });
    client.socket.write(get("/held"));
    await until("it is there", () => held.length === 1);
    const closing = closes(app);
    await sleep(LONG_MS);
    held[0]?.();
    await until("it is answered", () => client.text().endsWith("held"));
    await closing;
  }, 15_000);

  test("a body that keeps coming", async () => {
    const { app, port } = await start({ tls });
    const client = await rawConnect(port, { tls });
    const body = `{"a":"${"x".repeat(40)}"}`;
    const headers = JSON_BODY.replace("7", String(body.length));
    client.socket.write(`${head("/echo", headers, "POST")}\r\n`);
    const last = await rawConnect(port, { tls });
    last.socket.write(get(`/jobs/${JOB}`));
    await until("a round trip", () => last.text().includes("\r\n\r\n"));
    const closing = closes(app);
    for (const letter of body) {
      client.socket.write(letter);
      await sleep(LONG_MS / body.length);
    }
    await until("it is answered", () => client.text().endsWith(body));
    await closing;
  }, 15_000);
});

describe.each([true, false])("[H5] [S12] app.close() of an HTTP/2 server (TLS: %s)", (tls) => {
  async function session(port: number): Promise<ClientHttp2Session> {
    const client = http2Connect(`http${tls ? "s" : ""}://127.0.0.1:${port}`, {
      rejectUnauthorized: false,
    });
    client.on("error", () => {});
    onTestFinished(() => client.destroy());
    await once(client, "remoteSettings");
    return client;
  }
  const ask = (client: ClientHttp2Session, headers: Record<string, string>) =>
    client.request(headers, { endStream: headers[":method"] !== "POST" }).on("error", () => {});

  test.each<[string, Record<string, string>[]]>([
    ["nothing at all", []],
    ["a poll", [{ ":path": `/jobs/${JOB}` }]],
    ["an event stream", [{ ":path": `/jobs/${JOB}/events`, accept: "text/event-stream" }]],
    [
      "long-polls",
      range(1, 9).map(() => ({ ":path": `/jobs/${JOB}?wait=20`, "if-none-match": "*" })),
    ],
    ["big answers that it does not read", range(1, 9).map(() => ({ ":path": "/jobs/big" }))],
    [
      "a request whose body does not come",
      [
        {
          ":method": "POST",
          ":path": "/echo",
          "content-type": "application/json",
          "content-length": "7",
        },
      ],
    ],
  ])(
    "does not wait for a session that has sent %s",
    async (_name, requests) => {
      const { app, port } = await start({ tls, http2: true });
      const client = await session(port);
      const streams = requests.map((headers) => ask(client, headers));
      const pinged = new Promise((resolve) => client.ping(resolve));
      await pinged; // what was sent before it is there
      await closes(app);
      for (const stream of streams) stream.resume();
      await until("the session is closed", () => client.destroyed);
    },
    15_000,
  );

  test("leaves a request of the host's to the host", async () => {
    const { app, port, held } = await start({ tls, http2: true });
    const client = await session(port);
    const sent = ask(client, { ":path": "/held" }).setEncoding("utf8");
    let text = "";
    sent.on("data", (part: string) => {
      text += part;
    });
    await until("it is there", () => held.length === 1);
    const closing = closes(app);
    await sleep(LONG_MS);
    held[0]?.();
    await until("it is answered", () => text === "held");
    await closing;
  }, 15_000);

  test("does not wait for a connection that says nothing", async () => {
    const { app, port } = await start({ tls, http2: true });
    const accepted = once(app.server, "connection");
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {}).resume();
    await accepted;
    const closed = once(socket, "close");
    await closes(app);
    await closed;
  }, 15_000);
});
