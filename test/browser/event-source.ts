import type { Socket } from "node:net";
import type { Frame } from "@org/workflow-monitor";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { launchBrowser, withoutBrowser } from "../support/chromium.js";
import { range, revisionsIn } from "../support/frames.js";
import { startServer, type TestServer } from "../support/server.js";
import { until } from "../support/wait.js";

const JOB = "job";

/** A page that watches the job the way a page does, and keeps what it gets. */
const PAGE = `<!doctype html><title>viewer</title><script>
  const seen = { stream: [], socket: [], ids: [], opens: 0, errors: 0, problems: [], closed: null };
  const events = new EventSource("/jobs/${JOB}/events");
  events.onopen = () => { seen.opens += 1; };
  events.onerror = (event) => { seen.errors += 1; if (event.data) seen.problems.push("onerror"); };
  for (const type of ["snapshot", "update", "end"]) {
    events.addEventListener(type, ({ data, lastEventId }) => {
      seen.stream.push(data);
      seen.ids.push(lastEventId);
    });
  }
  events.addEventListener("problem", ({ data }) => { seen.problems.push(data); });
  events.onmessage = () => { seen.problems.push("an event without a name"); };
  const socket = new WebSocket("ws://" + location.host + "/ws?jobId=${JOB}");
  socket.onmessage = ({ data }) => { seen.socket.push(data); };
  socket.onclose = ({ code }) => { seen.closed = code; };
</script>`;

interface Seen {
  stream: string[];
  ids: string[];
  socket: string[];
  opens: number;
  errors: number;
  problems: string[];
  /** The close code of the WebSocket. */
  closed: number | null;
  /** Of the EventSource: 2 is closed for good. */
  readyState: number;
}

const framesOf = (texts: readonly string[]) => texts.map((text) => JSON.parse(text) as Frame);

describe.skipIf(withoutBrowser)("in a browser, EventSource", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchBrowser();
  }, 60_000);
  afterAll(() => browser?.close());

  /** A server with the job, and a page that watches it. */
  async function watching() {
    /** The `Last-Event-ID` of every request for the stream. */
    const requests: (string | undefined)[] = [];
    const sockets = new Set<Socket>();
    let others = 0;
    const server = await startServer({
      prepare(app) {
        app.get("/", (_request, reply) => reply.type("text/html").send(PAGE));
        app.get("/other", (_request, reply) => {
          others += 1;
          return reply.type("text/event-stream").send("retry: 3000\n\n");
        });
        app.addHook("onRequest", async ({ url, headers }) => {
          if (url.endsWith("/events"))
            requests.push(headers["last-event-id"] as string | undefined);
        });
        app.server.on("connection", (socket: Socket) => {
          sockets.add(socket);
          socket.once("close", () => sockets.delete(socket));
        });
      },
    });
    await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    await page.goto(`http://127.0.0.1:${server.port}/`);
    return {
      server,
      requests,
      page,
      /** Cuts every connection, in the middle of whatever is under way. */
      cut() {
        for (const socket of sockets) socket.destroy();
      },
      /** When another EventSource, opened now, has come back. */
      async comesBack() {
        await page.evaluate('void new EventSource("/other")');
        await until("it comes back", () => others === 2, 20_000);
      },
    };
  }

  /** What the page has seen, as soon as it fits. */
  async function seen(page: Page, fits: (seen: Seen) => boolean): Promise<Seen> {
    const look = () => page.evaluate<Seen>("({ ...seen, readyState: events.readyState })");
    let last = await look();
    for (const end = Date.now() + 20_000; !fits(last); last = await look()) {
      if (Date.now() > end) throw new Error(`in vain: ${JSON.stringify(last).slice(0, 2_000)}`);
      await page.waitForTimeout(20);
    }
    return last;
  }

  const complete = (server: TestServer) =>
    server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });

  test("sees the snapshot, the updates and the end: the texts of a WebSocket", async () => {
    const { server, page } = await watching();
    await seen(page, ({ stream, socket }) => stream.length === 1 && socket.length === 1);
    for (const message of ["plain", "ü 😀", "a\r\nb\n\nc", "\u2028 \ufeff \\"]) {
      await server.monitor.publish({ type: "job", jobId: JOB, message });
    }
    await complete(server);
    const all = await seen(page, ({ closed, stream }) => closed !== null && stream.length === 7);
    expect(all.stream).toEqual(all.socket);
    const frames = framesOf(all.stream);
    expect(frames.map(({ type }) => type)).toEqual([
      "snapshot",
      ...Array<string>(5).fill("update"),
      "end",
    ]);
    expect(all.ids).toEqual(frames.map((frame) => "cursor" in frame && frame.cursor));
    expect(all).toMatchObject({ closed: 1000, problems: [] });
  });

  test("comes back by itself when it is cut, and misses nothing", async () => {
    const { server, page, requests, cut } = await watching();
    await seen(page, ({ stream }) => stream.length === 1);
    let published = 1;
    const publish = (count: number) => {
      for (const _ of range(1, count)) {
        published += 1;
        server.engine.emit("job", { jobId: JOB, message: `${published} ${"x".repeat(2_000)}` });
      }
    };
    for (const round of range(1, 3)) {
      const { stream } = await seen(page, ({ opens }) => opens === round);
      publish(50);
      await seen(page, (now) => now.stream.length > stream.length);
      publish(50);
      await server.settled(JOB); // it is on its way
      cut();
      publish(50);
    }
    await seen(page, ({ opens }) => opens === 4);
    await complete(server);
    const all = await seen(page, ({ stream }) => stream.at(-1)?.includes('"type":"end"') === true);
    const frames = framesOf(all.stream);
    expect(revisionsIn(frames)).toEqual(range(2, published + 1));
    const snapshots = frames.filter((frame) => frame.type === "snapshot");
    expect(snapshots.slice(1).every(({ resumed }) => resumed)).toBe(true);
    expect(requests.length).toBeGreaterThanOrEqual(4);
    expect(requests[0]).toBeUndefined();
    for (const last of requests.slice(1)) expect(all.ids).toContain(last);
    expect(all.problems).toEqual([]);
  });

  test("stops after the end: on 204, which it gets when it comes back", async () => {
    const { server, page, requests, comesBack } = await watching();
    await seen(page, ({ stream }) => stream.length === 1);
    await complete(server);
    const { ids } = await seen(page, ({ readyState }) => readyState === 2);
    expect(requests).toEqual([undefined, ids.at(-1)]);
    await comesBack(); // who was told to wait as long as any stream may tell
    expect(requests).toHaveLength(2);
    await until("nobody is left", () => server.monitor.stats().viewers.sse === 0);
  });

  test("is told of a drain as a problem, and stops on a problem document", async () => {
    const { server, page, requests } = await watching();
    await seen(page, ({ stream }) => stream.length === 1);
    await server.monitor.drain(); // from now on it is 503
    const { problems } = await seen(page, ({ readyState }) => readyState === 2);
    expect(problems.map((text) => JSON.parse(text) as Frame)).toMatchObject([
      { type: "error", code: "draining", retryable: true },
    ]);
    expect(requests).toHaveLength(2);
  });
});
