import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type {
  ClientTransport,
  Connection,
  JobWatch,
  MonitorClientError,
  MonitorClientOptions,
} from "@org/workflow-monitor-client";
import { createMonitorClient } from "@org/workflow-monitor-client";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { ROUNDS } from "../../packages/client/src/line.js";
import { ANSWER_MS } from "../../packages/client/src/link.js";
import { failure, startClient, testHost } from "../support/client.js";
import { ManualClock } from "../support/clock.js";
import { startServer, type TestServer } from "../support/server.js";
import { startStranger } from "../support/stranger.js";
import { until } from "../support/wait.js";

const TRANSPORTS = ["ws", "sse", "poll"] as const;

/** A watch on a clock that goes on only while it waits for its next try. */
function watchJob(port: number, options: Partial<MonitorClientOptions> = {}, jobId = "a") {
  const clock = new ManualClock();
  const { now, monotonic: uptime, setTimeout } = clock;
  const host = testHost({ now, uptime, setTimeout, random: () => 0.5 });
  const client = startClient(port, options, host);
  const watch = client.watch(jobId);
  const connections: Connection[] = [];
  watch.on("connection", (connection) => void connections.push(connection));

  return { client, watch, connections, clock };
}
type Watched = Pick<ReturnType<typeof watchJob>, "watch" | "connections" | "clock">;

/** Lets the time pass until the next try, if it waits for one. */
function pass({ watch, clock }: Watched): void {
  const { retryAt } = watch.connection;
  if (retryAt !== null) clock.advance(Math.max(0, retryAt - clock.now()));
}

/** A message names what was asked, what came of it, and the options to look at. */
const tells = (...parts: (string | number)[]): unknown =>
  expect.stringMatching(new RegExp(parts.join(".*")));

/** The error of a watch that fails: typed, and told to whoever looks. */
async function fails(watched: Watched): Promise<MonitorClientError> {
  const { watch, connections } = watched;
  let error: MonitorClientError | undefined;
  void failure(watch).then((each) => {
    error = each;
  });
  await until("it has failed", () => {
    pass(watched);
    return error !== undefined;
  });
  if (!error) throw new Error("unreachable");
  expect(error.name).toBe("MonitorClientError");
  expect(watch.connection).toEqual({
    state: "failed",
    transport: null,
    cause: error,
    retryAt: null,
    stale: false,
  });
  // While it was tried again, everybody could see why.
  for (const { state, cause } of connections) {
    if (state === "reconnecting") expect(cause).not.toBe(null);
  }
  return error;
}

/** How often it was tried again. */
const retries = ({ connections }: Pick<Watched, "connections">): number =>
  connections.filter(({ retryAt }) => retryAt !== null).length;

async function live(watched: Watched): Promise<Connection> {
  const { watch } = watched;
  await until("it is live", () => {
    pass(watched);
    return watch.snapshot !== null;
  });
  return watch.connection;
}

async function startJob(options?: Parameters<typeof startServer>[0]): Promise<TestServer> {
  const server = await startServer(options);
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  return server;
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

describe("a port that nobody listens on", () => {
  test("is given up after some rounds, and says what to look at", async () => {
    const port = await freePort();
    const watched = watchJob(port);
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "unreachable", retryable: true });
    expect(error.message).toEqual(tells(`127.0.0.1:${port}/jobs`, "does not answer", "`url`"));
    expect(error.cause).toBeInstanceOf(Error);
    expect(retries(watched)).toBe(ROUNDS - 1);
  });

  test.each(TRANSPORTS)(
    "is no different over %s alone; nothing is left behind",
    async (transport) => {
      const watched = watchJob(await freePort(), { transports: [transport] });
      expect(await fails(watched)).toMatchObject({ code: "unreachable" });
      expect(retries(watched)).toBe(ROUNDS - 1);
      watched.clock.advance(0); // its subscription goes a turn later
      expect(watched.clock.timers).toBe(0);
    },
  );

  test("rejects get and list", async () => {
    const client = startClient(await freePort());
    const answer = { name: "MonitorClientError", code: "unreachable" };
    await expect(client.get("a")).rejects.toMatchObject(answer);
    await expect(client.list()).rejects.toMatchObject(answer);
  });

  test("can be watched again after it was given up: the line begins anew", async () => {
    const port = await freePort();
    const watched = watchJob(port, { transports: ["poll"] });
    await fails(watched);
    const again = { ...watched, connections: [], watch: watched.client.watch("a") };
    expect(again.watch.connection).toMatchObject({ state: "connecting", cause: null });
    expect(await fails(again)).toMatchObject({ code: "unreachable" });
  });
});

describe("a wrong path", () => {
  test("of the WebSocket costs the WebSocket only", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { paths: { ws: "/socket" } });
    expect(await live(watched)).toMatchObject({ state: "live", transport: "sse", cause: null });
  });

  test("of the jobs does not matter while the WebSocket works; get says what is wrong", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { paths: { jobs: "/tasks" } });
    expect(await live(watched)).toMatchObject({ state: "live", transport: "ws" });
    const message = tells(`http://127.0.0.1:${port}/tasks`, 404, "`paths`");
    const answer = { code: "bad_answer", message, retryable: false };
    await expect(watched.client.get("a")).rejects.toMatchObject(answer);
    await expect(watched.client.list()).rejects.toMatchObject(answer);
  });

  test("of both is told at once", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { paths: { ws: "/socket", jobs: "/tasks" } });
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "bad_answer", retryable: false });
    expect(error.message).toEqual(tells(`http://127.0.0.1:${port}/tasks`, 404, "`paths`"));
    expect(retries(watched)).toBe(0);
  });
});

describe("a stranger's answer", () => {
  test.each(["text/html", "application/json", "text/event-stream"])(
    "of 200 with a page as %s, on every path, is told at once",
    async (type) => {
      const { port, asked } = await startStranger((_request, response) => {
        response
          .setHeader("content-type", type)
          .end("<!doctype html>\ndata: <title>Portal</title>\n");
      });
      const watched = watchJob(port);
      expect(await fails(watched)).toMatchObject({ code: "bad_answer", retryable: false });
      expect(retries(watched)).toBe(0);
      expect(asked).toHaveLength(TRANSPORTS.length);
      await expect(watched.client.get("a")).rejects.toMatchObject({ code: "bad_answer" });
    },
  );

  test.each([301, 400, 404, 405, 410])("of %i is told at once", async (status) => {
    const { port } = await startStranger((_request, response) => {
      response.writeHead(status, { "content-type": "text/html" }).end("<h1>Sorry</h1>");
    });
    const watched = watchJob(port);
    expect(await fails(watched)).toMatchObject({ code: "bad_answer", retryable: false });
    expect(retries(watched)).toBe(0);
  });

  test.each([502, 503])("of %i is waited out as long as it asks for", async (status) => {
    const { port } = await startStranger((_request, response) => {
      response.writeHead(status, { "retry-after": "7" }).end("<h1>Bad gateway</h1>");
    });
    const watched = watchJob(port, { transports: ["sse", "poll"] });
    const { watch, clock } = watched;
    await until("it waits", () => watch.connection.retryAt !== null);
    expect(watch.connection).toMatchObject({
      state: "reconnecting",
      cause: { code: "unreachable", retryable: true, retryAfterMs: 7_000 },
    });
    expect(watch.connection.retryAt).toBeGreaterThanOrEqual(clock.now() + 7_000);
    const error = await fails(watched);
    expect(error.message).toEqual(tells(`http://127.0.0.1:${port}/jobs`, status));
    expect(retries(watched)).toBe(ROUNDS - 1);
  });

  test("of 503 is no end of a line that was live: it comes back when its server does", async () => {
    let away = false;
    const { port } = await startJob({
      prepare(app) {
        app.addHook("onRequest", async (_request, reply) => {
          if (away) await reply.code(503).send();
        });
      },
    });
    const watched = watchJob(port, { transports: ["poll"] });
    const { watch, clock } = watched;
    await live(watched);
    away = true;
    await until("it has tried ten times", () => {
      if (watch.connection.retryAt === null) clock.advance(1_000);
      else pass(watched);
      return retries(watched) > 10;
    });
    away = false;
    await until("it polls again", () => {
      pass(watched);
      return watch.connection.state === "polling";
    });
  });
});

describe("the host's own checks", () => {
  /** Fastify's hooks: they are not asked for a WebSocket. */
  const refusing = (status: number, body?: object) =>
    startJob({
      prepare(app) {
        app.addHook("onRequest", (_request, reply) => reply.code(status).send(body));
      },
    });

  test.each(["sse", "poll"] as const)("of 401 are final over %s", async (transport) => {
    const { port } = await refusing(401);
    const watched = watchJob(port, { transports: [transport] });
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "unauthorized", retryable: false });
    expect(error.message).toEqual(tells(`http://127.0.0.1:${port}/jobs`, 401, "`token`"));
    expect(retries(watched)).toBe(0);
    await expect(watched.client.get("a")).rejects.toMatchObject({ code: "unauthorized" });
  });

  test("of 401 may say why in a problem document", async () => {
    const { port } = await refusing(401, { detail: "Your session is over." });
    const error = await fails(watchJob(port, { transports: ["sse"] }));
    expect(error).toMatchObject({ code: "unauthorized" });
    expect(error.message).toContain("Your session is over.");
  });

  test.each(["sse", "poll"] as const)("of 403 are final over %s", async (transport) => {
    const { port } = await refusing(403);
    const watched = watchJob(port, { transports: [transport] });
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "forbidden", retryable: false });
    expect(error.message).toEqual(tells(`http://127.0.0.1:${port}/jobs`, 403));
    expect(retries(watched)).toBe(0);
  });

  test.each([
    [4401, "unauthorized"],
    [4403, "forbidden"],
    [4400, "bad_request"],
  ] as const)("of a WebSocket may close it with %i, which is final", async (close, code) => {
    const { port, asked } = await startStranger(
      () => {},
      (socket) => socket.close(close, "The host's own words."),
    );
    const watched = watchJob(port);
    const error = await fails(watched);
    expect(error).toMatchObject({ code, message: "The host's own words.", retryable: false });
    expect(asked).toHaveLength(1);
  });
});

describe.each(TRANSPORTS)("over %s", (transport) => {
  const transports: ClientTransport[] = [transport];

  test("an unknown job is waited for, and fails after 15 s", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { transports }, "b");
    const begun = watched.clock.now();
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "unknown_job", retryable: false });
    expect(error.message).toContain("There is no such job, or you may not see it.");
    expect(watched.clock.now() - begun).toBeGreaterThanOrEqual(15_000);
    expect(watched.clock.now() - begun).toBeLessThan(18_000);
    await expect(watched.client.get("b")).rejects.toMatchObject({ code: "unknown_job" });
  });

  test("a job that comes in that time is watched", async () => {
    const server = await startServer();
    const watched = watchJob(server.port, { transports });
    await until("it is refused", () => watched.watch.connection.retryAt !== null);
    expect(watched.watch.connection).toMatchObject({
      state: "reconnecting",
      cause: { code: "unknown_job" },
    });
    await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
    expect(await live(watched)).toMatchObject({ cause: null, retryAt: null });
  });

  test("an unknown job does not disturb the others", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { transports }, "b");
    const other = watched.client.watch("a");
    await fails(watched);
    expect(other.snapshot).toMatchObject({ jobId: "a" });
    expect(other.connection).toMatchObject({ transport, cause: null });
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("no session");
      },
    ],
    ["rejects", () => Promise.reject(new Error("no session"))],
  ])("a token function that %s is asked again later, and everybody sees why", async (_, token) => {
    const { port } = await startJob();
    let asked = 0;
    const watched = watchJob(port, {
      transports,
      token: () => {
        asked += 1;
        return asked < 10 ? token() : "good";
      },
    });
    const { watch } = watched;
    await until("it waits", () => watch.connection.retryAt !== null);
    const { state, cause } = watch.connection;
    expect(state).toBe("reconnecting");
    expect(cause).toMatchObject({ code: "token_failed", retryable: true });
    expect(cause?.message).toEqual(tells("`token`"));
    expect(cause?.cause).toEqual(new Error("no session"));
    expect(await live(watched)).toMatchObject({ cause: null });
    expect(asked).toBe(10);
  });

  test("the token is asked for anew at each connection", async () => {
    const socket = (each: WebSocket) => each.close(1_011);
    const stranger = await startStranger(
      (_, response) => void response.writeHead(500).end(),
      socket,
    );
    let asked = 0;
    const token = async () => {
      asked += 1;
      return `täken ${asked}`;
    };
    await fails(watchJob(stranger.port, { transports, token }));
    expect(asked).toBe(ROUNDS);
    const brought = stranger.asked.map(({ headers }) => {
      const [, bearer] = headers["sec-websocket-protocol"]?.split("workflow-monitor.token.") ?? [];
      if (bearer) return Buffer.from(bearer, "base64url").toString();
      return Buffer.from(headers.authorization ?? "", "latin1")
        .toString("latin1")
        .slice(7);
    });
    expect(brought).toEqual(Array.from({ length: ROUNDS }, (_, i) => `täken ${i + 1}`));
  });
});

describe("a WebSocket that talks", () => {
  const talking = (...texts: (string | Buffer)[]) =>
    startStranger(
      (_request, response) => void response.writeHead(404).end(),
      (socket) => {
        for (const text of texts) socket.send(text);
      },
    );

  test("texts that only look like frames prove nothing: the next transport is tried", async () => {
    const server = await startJob();
    let heard = 0;
    const { port } = await startStranger(
      () => {},
      (socket) => {
        socket.send('{"type":"connected"}');
        socket.on("message", () => {
          heard += 1;
        });
      },
    );
    class Elsewhere extends WebSocket {
      constructor(_url: string, protocols: string[]) {
        super(`ws://127.0.0.1:${port}`, protocols[0]);
      }
    }
    const watched = watchJob(server.port, { WebSocket: Elsewhere });
    await until("it has asked", () => heard > 0);
    watched.clock.advance(ANSWER_MS);
    await until("it is live", () => watched.watch.connection.state === "live");
    expect(watched.watch.connection).toMatchObject({ transport: "sse", cause: null });
  });

  test.each([
    ["text", "hello"],
    ["nothing", ""],
    ["binary", Buffer.from([0, 1, 2])],
    ["JSON without a type", '{"hello":"world"}'],
    ["JSON whose type is no text", '{"type":1}'],
    ["null", "null"],
    ["a list", '["snapshot"]'],
    ["half a frame", '{"type":"snap'],
  ])("%s is no workflow monitor, which is told at once", async (_, text) => {
    const { port } = await talking(text);
    const watched = watchJob(port, { transports: ["ws"] });
    const error = await fails(watched);
    expect(error).toMatchObject({ code: "bad_answer", retryable: false });
    expect(error.message).toEqual(tells(`ws://127.0.0.1:${port}/ws`, "`url`, `paths`"));
    expect(retries(watched)).toBe(0);
  });

  test("nonsense is left for the next transport", async () => {
    const server = await startJob();
    const { port } = await talking("hello");
    class Elsewhere extends WebSocket {
      constructor(_url: string, protocols: string[]) {
        super(`ws://127.0.0.1:${port}`, protocols[0]);
      }
    }
    const watched = watchJob(server.port, { WebSocket: Elsewhere });
    expect(await live(watched)).toMatchObject({ transport: "sse", cause: null });
  });

  test("frames and fields that nobody knows yet are ignored", async () => {
    const server = await startJob();
    class Newer extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        const set = (listen: ((event: { data: string }) => void) | null) =>
          this.on("message", (data) => {
            listen?.({ data: '{"type":"weather","jobId":"a","cursor":"aaaaaaaaaaaa.9"}' });
            listen?.({ data: '{"type":"weather"}' });
            listen?.({ data: String(data).replace(/}$/, ',"mood":"good"}') });
          });
        Object.defineProperty(this, "onmessage", { set });
      }
    }
    const watched = watchJob(server.port, { WebSocket: Newer, transports: ["ws"] });
    expect(await live(watched)).toMatchObject({ state: "live", cause: null });
    await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
    expect(await watched.watch.finished()).toMatchObject({ status: "completed" });
  });
});

describe("options", () => {
  const url = "http://127.0.0.1:1";
  const options = (more: object) => more as MonitorClientOptions;

  test.each([
    ["no url", {}],
    ["a url without an origin", { url: "/monitor" }],
    ["a url of a WebSocket", { url: "ws://127.0.0.1:1" }],
    ["no transport", { url, transports: [] }],
    ["a WebSocket where there is none", { url, transports: ["ws"], WebSocket: undefined }],
  ])("that make no sense are a TypeError: %s", (_, more) => {
    expect(() => createMonitorClient(options(more))).toThrow(TypeError);
  });

  test("without a job there is nothing to watch", () => {
    const client = createMonitorClient({ url, transports: ["poll"] });
    expect(() => client.watch("")).toThrow(new TypeError("Say which job to watch."));
  });

  test("a slash at the end of the url is one too many, and is left out", async () => {
    const { port } = await startJob();
    const watched = watchJob(port, { url: `http://127.0.0.1:${port}//` });
    expect(await live(watched)).toMatchObject({ transport: "ws" });
  });
});

test.each(["sse", "poll"] as const)(
  "a job id that no path can hold is that job's fault: %s",
  async (transport) => {
    const { port } = await startJob();
    const { client } = watchJob(port, { transports: [transport] });
    const error = await failure(client.watch("x".repeat(101)));
    expect(error).toMatchObject({ code: "bad_request", retryable: false });
    const other = client.watch("a");
    await until("the other is shown", () => other.snapshot !== null);
    expect(other.connection).toMatchObject({ transport, cause: null });
  },
);

test("a watch that has failed tells loops and listeners", async () => {
  const { port } = await startStranger((_request, response) => void response.writeHead(404).end());
  const watched = watchJob(port, { transports: ["poll"] });
  const loop = async (watch: JobWatch) => {
    for await (const job of watch) expect(job).toBe(undefined);
  };
  const looped = expect(loop(watched.watch)).rejects.toMatchObject({ code: "bad_answer" });
  const error = await fails(watched);
  await looped;
  expect(watched.connections.at(-1)?.cause).toBe(error);
});
