import {
  type AuthorizeRequest,
  SUBPROTOCOL,
  TOKEN_PROTOCOL,
  type Transport,
} from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { rawUpgrade } from "../support/raw.js";
import { startServer } from "../support/server.js";
import { send, subscribe } from "../support/subscriber.js";
import { connect } from "../support/viewer.js";
import { until } from "../support/wait.js";

const JOB = "job";
const TOKEN = "eyJhbGciOiJIUzI1NiJ9.e30.x_-~+/=";
const KIB = 1024;

const encoded = (token: string | Uint8Array) =>
  TOKEN_PROTOCOL + Buffer.from(token).toString("base64url");

/** A server that keeps what `authorize` was asked, and lets in who has a token, or everybody. */
async function start({ open = false } = {}) {
  const asked: AuthorizeRequest[] = [];
  const server = await startServer({
    authorize: (request) => {
      const { jobId, transport, headers, query } = request;
      asked.push({ ...request, jobId, transport, headers, query });
      return open || headers.authorization === `Bearer ${TOKEN}`;
    },
  });
  for (const jobId of [JOB, "second"]) {
    await server.monitor.publish({ type: "job", jobId, status: "running" });
  }
  return { server, asked, url: `ws://127.0.0.1:${server.port}/ws` };
}

describe("[D11] a token that is offered as a subprotocol", () => {
  test("[D11] is for authorize the Authorization header that other transports have", async () => {
    const { server, asked } = await start();
    const headers = { authorization: `Bearer ${TOKEN}` };
    const viewer = connect(server.wsUrl(JOB), [SUBPROTOCOL, encoded(TOKEN)]);
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: JOB });
    const stream = await server.stream(JOB, {}, headers);
    await stream.expect("snapshot");
    expect((await server.poll(JOB, headers)).status).toBe(200);
    const seen = new Map<Transport, unknown>();
    for (const { transport, headers } of asked) seen.set(transport, headers.authorization);
    expect([...seen.keys()]).toEqual(["ws", "sse", "poll"]);
    expect(new Set(seen.values())).toEqual(new Set([`Bearer ${TOKEN}`]));
  });

  test("[D11] is taken again for each job that the connection subscribes to", async () => {
    const { url, asked } = await start();
    const viewer = connect(url, [SUBPROTOCOL, encoded(TOKEN)]);
    await viewer.opened;
    send(viewer, subscribe(JOB), subscribe("second"));
    for (const jobId of [JOB, "second"]) {
      expect(await viewer.expect("snapshot")).toMatchObject({ jobId });
    }
    expect(asked).toHaveLength(2);
    for (const { headers } of asked) {
      expect(headers).toMatchObject({
        authorization: `Bearer ${TOKEN}`,
        "sec-websocket-protocol": SUBPROTOCOL,
      });
    }
  });

  test.each([
    { before: [], after: [], left: undefined },
    { before: [SUBPROTOCOL], after: [], left: SUBPROTOCOL },
    { before: [], after: [SUBPROTOCOL], left: SUBPROTOCOL },
    { before: ["a", SUBPROTOCOL], after: ["b"], left: `a, ${SUBPROTOCOL}, b` },
  ])("[D11] stands nowhere else: not in headers, answer, log, of $before…$after", async (offer) => {
    const { server, asked } = await start();
    const { before, after, left } = offer;
    const secret = encoded(TOKEN);
    for (const separator of [",", " ,  "]) {
      const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`, {
        "Sec-WebSocket-Protocol": [...before, secret, ...after].join(separator),
      });
      expect(client.status).toBe(101);
      await until("it is served", () => client.text().includes('"type":"snapshot"'));
      const picked = /^sec-websocket-protocol: (.*)\r$/im.exec(client.text())?.[1];
      expect(picked).toBe(left && SUBPROTOCOL);
      expect(client.text()).not.toContain(secret);
      const { headers } = asked.at(-1) as AuthorizeRequest;
      expect(headers["sec-websocket-protocol"]).toBe(left);
      expect(headers.authorization).toBe(`Bearer ${TOKEN}`);
      expect(JSON.stringify(headers)).not.toContain(secret);
      client.socket.destroy();
    }
    await until("they have left", () => server.lines.length === 2);
    for (const hidden of [secret, TOKEN])
      expect(JSON.stringify(server.lines)).not.toContain(hidden);
  });

  test("[D11] does not replace an Authorization header that the request has", async () => {
    const { server, asked, url } = await start({ open: true });
    const own = { headers: { Authorization: "Basic dTpw" } };
    const protocols = [SUBPROTOCOL, encoded(TOKEN)];
    const viewer = connect(server.wsUrl(JOB), protocols, own);
    await viewer.expect("snapshot");
    const many = connect(url, protocols, own);
    await many.opened;
    send(many, subscribe(JOB));
    await many.expect("snapshot");
    for (const { headers } of asked) {
      expect(headers).toMatchObject({
        authorization: "Basic dTpw",
        "sec-websocket-protocol": SUBPROTOCOL,
      });
    }
  });

  test.each([
    ["a character", "x"],
    ["a JSON Web Token", TOKEN],
    ["of other scripts", "tökén 密碼 🔑"],
    ["of 4 KiB", "t".repeat(4 * KIB)],
  ])("[D11] may be %s", async (_name, token) => {
    const { server, asked } = await start({ open: true });
    const viewer = connect(server.wsUrl(JOB), [SUBPROTOCOL, encoded(token)]);
    await viewer.expect("snapshot");
    expect(asked[0]?.headers.authorization).toBe(`Bearer ${token}`);
  });

  test("[D11] that is not enough looks like an unknown job, as on HTTP", async () => {
    const { server } = await start();
    const wrong = connect(server.wsUrl(JOB), [SUBPROTOCOL, encoded("wrong")]);
    expect(await wrong.expect("error")).toMatchObject({ code: "unknown_job" });
    expect((await wrong.closed).code).toBe(4404);
    expect((await server.poll(JOB, { authorization: "Bearer wrong" })).status).toBe(404);
  });

  test("[D11] is no version: one that is too new is closed 4406, with or without it", async () => {
    const { server, asked } = await start({ open: true });
    for (const offered of ["workflow-monitor.v9", `workflow-monitor.v9, ${encoded(TOKEN)}`]) {
      const client = await rawUpgrade(server.port, `/ws?jobId=${JOB}`, {
        "Sec-WebSocket-Protocol": offered,
      });
      const close = Buffer.from([4406 >> 8, 4406 & 255]);
      await until("it is closed", () => client.received().includes(close));
      expect(client.text()).toContain('"code":"unsupported_version"');
    }
    expect(asked).toEqual([]);
  });
});

describe("[D11] a token that cannot be read", () => {
  const CASES: [string, string[], RegExp][] = [
    ["empty", [TOKEN_PROTOCOL], /empty/],
    ["of base64, not base64url", [`${TOKEN_PROTOCOL}ab+c`], /base64url/],
    ["a JSON Web Token as it is", [`${TOKEN_PROTOCOL}eyJh.e30.xyz`], /base64url/],
    ["of a length that no bytes have", [`${TOKEN_PROTOCOL}YWJjZ`], /base64url/],
    ["with bits that nobody reads", [`${TOKEN_PROTOCOL}YWJjZB`], /base64url/],
    ["not UTF-8", [encoded(Buffer.from([0x61, 0xff]))], /UTF-8/],
    ["half a character", [encoded(Buffer.from("é").subarray(0, 1))], /UTF-8/],
    ["a surrogate", [encoded(Buffer.from([0xed, 0xa0, 0x80]))], /UTF-8/],
    ["with a line break", [encoded("a\r\nX-Admin: 1")], /control/],
    ["with a NUL", [encoded("a\0")], /control/],
    ["with a DEL", [encoded("a\x7f")], /control/],
    ["with a C1 control character", [encoded("a\x85")], /control/],
    ["with a line separator", [encoded("a\u2028")], /control/],
    ["over 4 KiB", [encoded("t".repeat(4 * KIB + 1))], /4 KiB/],
    ["over 4 KiB in fewer characters", [encoded("é".repeat(2 * KIB + 1))], /4 KiB/],
    ["one of two", [encoded("a"), encoded("b")], /one token/],
  ];

  test.each(CASES)("[D11] is closed 4400, with a sentence: %s", async (_name, tokens, sentence) => {
    const { server, asked, url } = await start({ open: true });
    for (const target of [server.wsUrl(JOB), url]) {
      const viewer = connect(target, [SUBPROTOCOL, ...tokens]);
      const frames = await viewer.readToEnd();
      expect(frames).toMatchObject([{ type: "error", code: "bad_request", retryable: false }]);
      const { code, reason } = await viewer.closed;
      expect(code).toBe(4400);
      expect(reason).toMatch(sentence);
      expect(reason).toMatch(/^[A-Z].*\.$/);
      expect(viewer.socket.protocol).toBe(SUBPROTOCOL);
      for (const token of tokens.filter((token) => token !== TOKEN_PROTOCOL)) {
        expect(JSON.stringify(frames)).not.toContain(token.slice(TOKEN_PROTOCOL.length));
      }
    }
    expect(asked).toEqual([]);
  });
});

describe("[D11] without a token", () => {
  test.each([
    { protocols: [], header: undefined },
    { protocols: [SUBPROTOCOL], header: SUBPROTOCOL },
    { protocols: [SUBPROTOCOL, "token.abc"], header: `${SUBPROTOCOL},token.abc` },
  ])("[D11] authorize sees the headers as they came: $protocols", async (given) => {
    const { server, asked, url } = await start({ open: true });
    const viewer = connect(server.wsUrl(JOB), given.protocols);
    await viewer.expect("snapshot");
    const many = connect(url, given.protocols);
    await many.opened;
    send(many, subscribe(JOB));
    await many.expect("snapshot");
    expect(asked).toHaveLength(2);
    for (const { headers } of asked) {
      expect(headers).not.toHaveProperty("authorization");
      expect(headers["sec-websocket-protocol"]).toBe(given.header);
    }
  });
});
