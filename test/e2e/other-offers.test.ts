import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { certificate } from "../support/certificate.js";
import { range } from "../support/frames.js";
import { type RawClient, rawConnect, rawUpgrade } from "../support/raw.js";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

/** As Java's HttpClient and `curl --http2` send it. */
const H2C =
  "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";

const request = (path: string, headers = H2C, method = "GET", body = "") =>
  `${method} ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n${body}`;

/** What is answered, a line for each answer. */
const answers = (client: RawClient): string[] =>
  client
    .text()
    .split("HTTP/1.1 ")
    .slice(1)
    .map((answer) => `${answer.slice(0, 3)} ${answer.split("\r\n\r\n")[1] ?? ""}`);

/** A server of the host's that says what it was asked, with adapters for some paths. */
async function start({ tls = false, paths = ["/ws"], attach = [attachWebSocket] } = {}) {
  const asked: string[] = [];
  const held: (() => void)[] = [];
  const server = (tls ? createTlsServer(certificate()) : createServer()) as Server;
  server.on("request", (request, response) => {
    asked.push(JSON.stringify(request.headers));
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    request.on("end", () => {
      const text = `${request.method} ${request.url} ${body}`;
      const answer = () => response.setHeader("content-length", text.length).end(text);
      if (request.url === "/held") held.push(answer);
      else answer();
    });
  });
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  paths.forEach((path, at) => {
    (attach[at % attach.length] ?? attachWebSocket)(server, { monitor, path });
  });
  onTestFinished(async () => {
    await monitor.close();
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await inTime("server.close()", closed);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { server, port, asked, held, client: await rawConnect(port, { tls }) };
}

async function secondCopy(): Promise<typeof attachWebSocket> {
  if (process.env.TEST_DIST) {
    return createRequire(import.meta.url)("@org/workflow-monitor-ws").attachWebSocket;
  }
  vi.resetModules();
  return (await import("@org/workflow-monitor-ws")).attachWebSocket;
}

describe.each([false, true])("[H4] a request that offers h2c (TLS: %s)", (tls) => {
  test.each(["/own", "/ws", "/ws?jobId=42", "//["])(
    "is the request that it would be without: %s",
    async (path) => {
      const { client, asked } = await start({ tls });
      client.socket.write(request(path));
      await until("it is answered", () => answers(client).length > 0);
      expect(answers(client)).toEqual([`200 GET ${path} `]);
      expect(asked).toHaveLength(1);
    },
  );

  test("keeps its body, its other headers and its connection", async () => {
    const { client, asked } = await start({ tls });
    const offers = `${H2C}Connection: keep-alive\r\nX-Name: ü\r\n`;
    client.socket.write(
      Buffer.from(request("/a", `${offers}Content-Length: 5\r\n`, "POST", "hel"), "latin1"),
    );
    await until("its head is there", () => asked.length === 1);
    client.socket.write("lo");
    await until("it is answered", () => answers(client).length === 1);
    const chunks = "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    client.socket.write(request("/b", `${H2C}Transfer-Encoding: chunked\r\n`, "PUT", chunks));
    await until("it is answered", () => answers(client).length === 2);
    client.socket.write(request("/c", ""));
    await until("it is answered", () => answers(client).length === 3);
    expect(answers(client)).toEqual(["200 POST /a hello", "200 PUT /b hello", "200 GET /c "]);
    expect(JSON.parse(asked[0] ?? "")).toMatchObject({
      host: "x",
      connection: expect.stringContaining("keep-alive"),
      "x-name": "ü",
      "content-length": "5",
    });
  });

  test("is answered in its place behind a pipelined one", async () => {
    const { client, held } = await start({ tls });
    client.socket.write(request("/held", "") + request("/b"));
    await until("the first one is held", () => held.length === 1);
    held[0]?.();
    await until("both are answered", () => answers(client).length === 2);
    client.socket.write(request("/c"));
    await until("all are answered", () => answers(client).length === 3);
    expect(answers(client)).toEqual(["200 GET /held ", "200 GET /b ", "200 GET /c "]);
  });

  // Node that declines an upgrade by itself drops what follows in the same segment.
  test.skipIf("shouldUpgradeCallback" in createServer())(
    "is answered, and so are those that follow in the same segment",
    async () => {
      const { client } = await start({ tls });
      client.socket.write(
        range(1, 9)
          .map((n) => request(`/${n}`, n % 2 ? H2C : ""))
          .join(""),
      );
      await until("all are answered", () => answers(client).length === 9);
      expect(answers(client)).toEqual(range(1, 9).map((n) => `200 GET /${n} `));
    },
  );

  test("may go away while it waits for the one before it", async () => {
    const { client, held, server, port } = await start({ tls });
    client.socket.write(request("/held", "") + request("/b"));
    await until("it waits", () => held.length === 1);
    if ("resetAndDestroy" in client.socket && !tls) client.socket.resetAndDestroy();
    else client.socket.destroy();
    const next = await rawConnect(port, { tls });
    next.socket.write(request("/c"));
    await until("the server lives", () => answers(next).length === 1);
    expect(server.listening).toBe(true);
  });
});

describe("[H4] with several adapters", () => {
  test.each(["/a", "/b", "/other"])("it is answered once: %s", async (path) => {
    const attach = [attachWebSocket, await secondCopy()];
    const { client, asked } = await start({ paths: ["/a", "/b"], attach });
    client.socket.write(request(path));
    await until("it is answered", () => answers(client).length === 1);
    client.socket.write(request("/next"));
    await until("both are answered", () => answers(client).length === 2);
    expect(answers(client)).toEqual([`200 GET ${path} `, "200 GET /next "]);
    expect(asked).toHaveLength(2);
  });

  test("and an upgrade handler of the host's, it is the handler's", async () => {
    const { server, client, port } = await start({ paths: ["/a", "/b"] });
    server.on("upgrade", ({ url }: { url: string }, socket: Duplex) => {
      if (url === "/h2c") socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    });
    client.socket.write(request("/h2c"));
    await until("it is answered", () => client.ended());
    expect(client.text()).toMatch(/^HTTP\/1.1 101 /);
    expect((await rawUpgrade(port, "/a?jobId=42")).status).toBe(101);
  });
});

test("[H4] a host on Fastify answers it on every route, and closes", async () => {
  const server = await startServer({
    prepare: (app) => {
      app.get("/own", async () => "own");
      app.post("/own", async ({ body }) => body);
    },
  });
  await server.monitor.publish({ type: "job", jobId: "42", status: "running" });
  const client = await rawConnect(server.port);
  const json = `${H2C}Content-Type: application/json\r\nContent-Length: 7\r\n`;
  const posted = request("/own", json, "POST", '{"a":1}');
  const texts = [request("/own"), posted, request("/jobs/42"), request("/none")];
  for (const [at, text] of texts.entries()) {
    client.socket.write(text);
    await until("it is answered", () => answers(client).length === at + 1);
  }
  expect(answers(client).map((answer) => answer.slice(0, 11))).toEqual([
    "200 own",
    '200 {"a":1}',
    '200 {"jobId',
    '404 {"messa',
  ]);
  await inTime("app.close()", server.app.close());
  await until("it is closed", () => client.ended());
});

test("[H4] a WebSocket to a foreign path is answered with 404, as before", async () => {
  const { port } = await start();
  for (const _ of range(1, 3)) expect((await rawUpgrade(port, "/none")).status).toBe(404);
});
