import { connect as http2Connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { allowAll, createWorkflowMonitor, memoryStore, printCursor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import Fastify from "fastify";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { type RawClient, rawConnect } from "../support/raw.js";
import { recorder, type ServerOptions, startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";

/** A server on a clock that the test moves, with one job and a route of the host's that never answers. */
async function start(options: ServerOptions = {}) {
  const clock = new ManualClock();
  const server = await startServer({
    clock,
    heartbeatMs: 600_000,
    ...options,
    prepare(app) {
      app.get("/host", async () => "host");
      app.get("/never", () => new Promise(() => {}));
    },
  });
  const cursor = printCursor(
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" }),
  );
  const poll = request(`/jobs/${JOB}?wait=20`, `If-None-Match: "${cursor}"`);
  const stream = request(`/jobs/${JOB}/events`, "Accept: text/event-stream");
  return { clock, server, asks: { poll, stream } };
}

const request = (path: string, header = "Accept: */*") =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n`;

const answers = (client: RawClient): number => client.text().split("HTTP/1.1 ").length - 1;

/** Calls of a function at the same time, the most of them. */
function crowd() {
  const seen = { now: 0, most: 0, all: 0 };
  return {
    seen,
    async run<T>(work: () => Promise<T>): Promise<T> {
      seen.now += 1;
      seen.all += 1;
      seen.most = Math.max(seen.most, seen.now);
      await turns(2);
      seen.now -= 1;
      return work();
    },
  };
}

/** A store whose lists take some turns, and are counted. */
function slowLists() {
  const store = memoryStore();
  const { seen, run } = crowd();
  const list: typeof store.list = (query) => run(async () => store.list?.(query) as never);
  return { store: { ...store, list }, seen };
}

describe.each(["poll", "stream"] as const)("[S1] [D15] pipelined requests: %s", (kind) => {
  const viewers = ({ server }: Awaited<ReturnType<typeof start>>) => {
    const { sse, longPoll } = server.monitor.stats().viewers;
    return sse + longPoll;
  };

  test("begin one after another, and all end with their connection", async () => {
    const given = await start();
    const { clock, server, asks } = given;
    const timers = clock.timers;
    const client = await rawConnect(server.port);
    client.socket.write(asks[kind].repeat(30));
    await until("the first one has begun", () => viewers(given) > 0);
    await server.poll(JOB);
    expect(viewers(given)).toBe(1);
    client.socket.resetAndDestroy();
    await until("nobody is left", () => viewers(given) === 0);
    await turns(10);
    expect(viewers(given)).toBe(0);
    clock.advance(5_000); // the room lingers
    await until("nothing is left", () => server.monitor.stats().rooms === 0);
    expect(clock.timers).toBe(timers);
  });

  test("that wait for an answer of the host's end with their connection", async () => {
    const given = await start();
    const client = await rawConnect(given.server.port);
    client.socket.write(request("/never") + given.asks[kind].repeat(20));
    await until("one has begun", () => viewers(given) > 0);
    client.socket.resetAndDestroy();
    await until("nobody is left", () => viewers(given) === 0);
    await turns(10);
    expect(viewers(given)).toBe(0);
  });

  test("over limits.requestsPerConnection end their connection, with one line in the log", async () => {
    const given = await start({ limits: { requestsPerConnection: 10 } });
    const { server, asks } = given;
    for (const _ of range(1, 3)) {
      const client = await rawConnect(server.port);
      client.socket.write(asks[kind].repeat(2_000));
      await until("it is closed", () => client.ended());
    }
    await until("nobody is left", () => viewers(given) === 0);
    const lines = server.lines.filter(({ level }) => level === "warn");
    expect(lines).toMatchObject([{ context: { remoteAddress: "127.0.0.1", most: 10 } }]);
    expect(lines[0]?.message).toContain("limits.requestsPerConnection");
    expect((await server.poll(JOB)).status).toBe(200);
  });
});

describe("[D15] a client that pipelines within the limit", () => {
  test("is answered in order, however often it asks", async () => {
    const { server } = await start();
    for (const n of range(1, 32)) await server.monitor.publish({ type: "job", jobId: `${n}` });
    const client = await rawConnect(server.port);
    for (const round of range(1, 20)) {
      client.socket.write(
        range(1, 32)
          .map((n) => request(`/jobs/${n}`))
          .join(""),
      );
      await until(`round ${round} is answered`, () => answers(client) === round * 32);
    }
    const ids = [...client.text().matchAll(/"jobId":"(\d+)"/g)].map(([, id]) => Number(id));
    expect(ids).toEqual(range(1, 20).flatMap(() => range(1, 32)));
  });

  test("is answered in order when authorize answers later", async () => {
    const { server } = await start({ authorize: async () => turns(1).then(() => true) });
    const client = await rawConnect(server.port);
    client.socket.write(`${request(`/jobs/${JOB}`)}${request("/host")}`.repeat(30));
    await until("all are answered", () => answers(client) === 60);
    const bodies = client.text().split("HTTP/1.1 200 OK").slice(1);
    expect(bodies.map((text) => text.includes('"jobId"'))).toEqual(
      range(1, 60).map((n) => n % 2 === 1),
    );
  });

  test("may ask the host for as much as the host likes", async () => {
    const { server } = await start({ limits: { requestsPerConnection: 1 } });
    const client = await rawConnect(server.port);
    client.socket.write(request("/host").repeat(300));
    await until("all are answered", () => answers(client) === 300);
    expect(server.lines).toEqual([]);
  });
});

describe("[S2] [D15] one connection takes a part of each turn of the event loop", () => {
  /** Counts what is asked in each turn, from `begin` on. */
  function askedPerTurn() {
    const counted = { now: 0, most: 0 };
    let counting = true;
    const look = () => {
      counted.most = Math.max(counted.most, counted.now);
      counted.now = 0;
      if (counting) setImmediate(look);
    };
    onTestFinished(() => {
      counting = false;
    });
    return { counted, begin: look, authorize: () => ++counted.now > 0 };
  }

  test("and no more: 4 requests", async () => {
    const { counted, begin, authorize } = askedPerTurn();
    const { server } = await start({ authorize, limits: { requestsPerConnection: 100 } });
    const client = await rawConnect(server.port);
    begin();
    client.socket.write(request(`/jobs/${JOB}`).repeat(90));
    await until("all are answered", () => answers(client) === 90);
    // Between two looks there may be the end of one turn and the beginning of the next.
    expect(counted.most).toBeLessThanOrEqual(2 * 4);
  });

  test("and all connections together no more than 16 of what has to wait", async () => {
    const { counted, begin, authorize } = askedPerTurn();
    const { server } = await start({ authorize });
    const clients = await Promise.all(range(1, 20).map(() => rawConnect(server.port)));
    begin();
    for (const { socket } of clients) socket.write(request(`/jobs/${JOB}`).repeat(30));
    await until("all are answered", () => clients.every((client) => answers(client) === 30));
    expect(counted.most).toBeLessThanOrEqual(20 * 4 + 2 * 16); // what comes in one turn begins at once, 4 of each
  });

  test("and one list at a time", async () => {
    const { store, seen } = slowLists();
    const { server } = await start({ store });
    const client = await rawConnect(server.port);
    client.socket.write(request("/jobs").repeat(30));
    await until("all are answered", () => answers(client) === 30);
    expect(seen).toEqual({ now: 0, most: 1, all: 30 });
  });
});

describe("[S1] [S2] [D15] an HTTP/2 session", () => {
  async function startHttp2(options: Parameters<typeof createWorkflowMonitor>[0]) {
    const { logger, lines } = recorder();
    const monitor = createWorkflowMonitor({ logger, ...options });
    const app = Fastify({ http2: true });
    await app.register(workflowMonitorHttp, { monitor });
    await app.listen({ port: 0, host: "127.0.0.1" });
    const session = http2Connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
    session.on("error", () => {});
    onTestFinished(async () => {
      session.destroy();
      await inTime("app.close()", app.close());
      await monitor.close();
    });
    const { epoch } = await monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const get = (path: string, headers = {}) =>
      new Promise<{ status: number; text: string }>((resolve) => {
        const sent = session.request({ ":path": path, ...headers });
        const answer = { status: 0, text: "" };
        sent.on("response", (head) => {
          answer.status = Number(head[":status"]);
        });
        sent.setEncoding("utf8").on("data", (text: string) => {
          answer.text += text;
        });
        sent.on("error", () => {});
        sent.on("close", () => resolve(answer));
      });
    const wait = () => get(`/jobs/${JOB}?wait=20`, { "if-none-match": `"${epoch}.1"` });
    return { monitor, session, lines, get, wait };
  }

  test("may have 32 times as many requests pending; over it they are refused, and nothing else ends", async () => {
    const limits = { requestsPerConnection: 1 };
    const clock = new ManualClock();
    const given = await startHttp2({ authorize: allowAll, clock, limits });
    const waiting = range(1, 32).map(() => given.wait());
    const waits = () => given.monitor.stats().viewers.longPoll;
    await until("they wait", () => waits() === 32);
    const { status, text } = await given.get(`/jobs/${JOB}`);
    expect(status).toBe(429);
    expect(JSON.parse(text)).toMatchObject({ code: "too_many_requests" });
    expect(waits()).toBe(32);
    await given.monitor.publish({ type: "job", jobId: JOB, message: "news" });
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(200);
    expect((await given.get(`/jobs/${JOB}`)).status).toBe(200);
    expect(given.lines).toEqual([]);
  });

  test("is closed when it goes on, and everything it asked for ends", async () => {
    const limits = { requestsPerConnection: 1 };
    const given = await startHttp2({ authorize: allowAll, limits });
    for (const _ of range(1, 150)) void given.wait();
    await until("it is closed", () => given.session.destroyed);
    await until("nobody waits", () => given.monitor.stats().viewers.longPoll === 0);
    expect(given.lines.map(({ message }) => message)).toEqual([
      expect.stringContaining("limits.requestsPerConnection"),
    ]);
  });

  test("has four lists at a time, and its other requests do not wait for them", async () => {
    const { store, seen } = slowLists();
    const given = await startHttp2({ authorize: allowAll, store });
    const lists = range(1, 40).map(() => given.get("/jobs"));
    expect((await given.get(`/jobs/${JOB}`)).status).toBe(200);
    expect(seen.all).toBeLessThan(40);
    for (const { status } of await Promise.all(lists)) expect(status).toBe(200);
    expect(seen.all).toBe(40);
    expect(seen.most).toBeLessThanOrEqual(4);
  });
});
