import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { WorkflowMonitor } from "@org/workflow-monitor";
import {
  type AdapterContractOptions,
  type AdapterFixture,
  type AdapterViewer,
  adapterContract,
} from "@org/workflow-monitor/testing";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { describe, test } from "vitest";
import { openStream } from "../support/event-stream.js";
import { httpGet } from "../support/http.js";
import { eventsPath } from "../support/server.js";
import { connect } from "../support/viewer.js";
import { expectFault, results } from "./prove.js";

async function openWebSocket(
  monitor: WorkflowMonitor,
): Promise<Required<Pick<AdapterFixture, "watch" | "close">>> {
  const server = createServer();
  const adapter = attachWebSocket(server, { monitor });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    async watch(jobId, options) {
      const query = new URLSearchParams({ jobId, ...options });
      const viewer = connect(`ws://127.0.0.1:${port}/ws?${query}`);
      return { next: () => viewer.nextText(), cut: () => viewer.socket.terminate() };
    },
    async close() {
      await adapter.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** `wait`: polls with a validator wait so many seconds. */
async function openHttp(
  monitor: WorkflowMonitor,
  { wait }: { wait?: number } = {},
): Promise<Required<AdapterFixture>> {
  const app = Fastify({ forceCloseConnections: true });
  await app.register(workflowMonitorHttp, { monitor });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = app.server.address() as AddressInfo;
  return {
    async watch(jobId, options) {
      const path = eventsPath(jobId, { ...options });
      const stream = await openStream(port, path).catch(() => undefined);
      if (!stream) return refused(port, jobId, path);
      return { next: () => stream.nextText(), cut: () => stream.abort() };
    },
    async poll(jobId, ifNoneMatch) {
      const headers = ifNoneMatch === undefined ? {} : { "if-none-match": ifNoneMatch };
      const path = `/jobs/${encodeURIComponent(jobId)}${wait === undefined ? "" : `?wait=${wait}`}`;
      const answer = await httpGet(port, path, headers);
      return { status: answer.status, body: answer.text, tag: answer.headers.etag };
    },
    close: () => app.close(),
  };
}

/** What is no stream is a problem document: it says what an `error` frame says. */
async function refused(port: number, jobId: string, path: string): Promise<AdapterViewer> {
  const { json } = await httpGet(port, path, { accept: "text/event-stream" });
  const { code, detail: message } = json<{ code: string; detail: string }>();
  const texts = [JSON.stringify({ type: "error", jobId, code, message })];
  return { next: async () => texts.shift(), cut: () => {} };
}

async function openBoth(monitor: WorkflowMonitor): Promise<AdapterFixture> {
  const [ws, http] = await Promise.all([openWebSocket(monitor), openHttp(monitor)]);
  return {
    ...http,
    ...ws,
    close: async () => void (await Promise.all([ws.close(), http.close()])),
  };
}

describe("the WebSocket adapter", () => {
  adapterContract({
    test,
    open: openWebSocket,
    supports: { watch: true, poll: false, delta: true },
  });
});

describe("the HTTP adapter, with event streams and polls", () => {
  adapterContract({ test, open: openHttp, supports: { watch: true, poll: true, delta: true } });
});

describe("the HTTP adapter, with long-polls", () => {
  adapterContract({
    test,
    open: (monitor) => openHttp(monitor, { wait: 0.05 }),
    supports: { watch: false, poll: true },
  });
});

describe("both, side by side", () => {
  adapterContract({ test, open: openBoth, supports: { watch: true, poll: true, delta: true } });
});

/** Frames that a viewer of the adapter gets, changed: undefined swallows one. */
function tampered(
  tamper: (text: string, count: number) => string | undefined,
): AdapterContractOptions["open"] {
  return async (monitor) => {
    const fixture = await openBoth(monitor);
    return {
      ...fixture,
      async watch(jobId, options) {
        const viewer = await (fixture.watch as NonNullable<AdapterFixture["watch"]>)(
          jobId,
          options,
        );
        let count = 0;
        return {
          ...viewer,
          async next() {
            for (;;) {
              const text = await viewer.next();
              if (text === undefined) return undefined;
              const changed = tamper(text, ++count);
              if (changed !== undefined) return changed;
            }
          },
        };
      },
    };
  };
}

const withWatch =
  (
    change: (watch: NonNullable<AdapterFixture["watch"]>) => AdapterFixture["watch"],
  ): AdapterContractOptions["open"] =>
  async (monitor) => {
    const fixture = await openBoth(monitor);
    const watch = change(fixture.watch as NonNullable<AdapterFixture["watch"]>);
    return { ...fixture, ...(watch && { watch }) };
  };

const withPoll =
  (
    change: (poll: NonNullable<AdapterFixture["poll"]>) => NonNullable<AdapterFixture["poll"]>,
  ): AdapterContractOptions["open"] =>
  async (monitor) => {
    const fixture = await openBoth(monitor);
    return { ...fixture, poll: change(fixture.poll as NonNullable<AdapterFixture["poll"]>) };
  };

const faults: Record<string, { found: string; open: AdapterContractOptions["open"] }> = {
  "a lost update": {
    found: "each revision follows once, in order, with its event and the job",
    open: tampered((text, count) => (count === 7 ? undefined : text)),
  },
  "a cursor that is not read": {
    found: "who comes back with a cursor gets every event since, and nothing twice",
    open: withWatch(
      (watch) =>
        (jobId, { after: _, ...options }) =>
          watch(jobId, options),
    ),
  },
  "bytes of one's own": {
    found: "all viewers get the same bytes",
    open: tampered((text) => text.replace('"type"', `"viewer":${Math.random()},"type"`)),
  },
  "an end that is not told": {
    found: "the end is told after the last update, and is the last",
    open: tampered((text) => (text.includes('"type":"end"') ? undefined : text)),
  },
  "a forbidden job that is told from an unknown one": {
    found: "an unknown job and a forbidden one look the same",
    open: tampered((text) =>
      text.includes("somebody else") ? text.replace("no such job", "no right to") : text,
    ),
  },
  "a delta that says too little": {
    found: "deltas lead to the same job, to the byte",
    open: tampered((text) =>
      text.includes('"patch"') ? text.replace(/"counts":\{[^}]*\},/, "") : text,
    ),
  },
  "a cut that goes unnoticed": {
    found: "a viewer that is cut off leaves, and disturbs nobody",
    open: withWatch((watch) => async (jobId, options) => ({
      ...(await watch(jobId, options)),
      cut: () => {},
    })),
  },
  "a validator that never fits": {
    found: "a poll with the validator is answered without the job, until it changes",
    open: withPoll((poll) => (jobId) => poll(jobId)),
  },
  "polls in a shape of their own": {
    found: "what is polled stands byte for byte in the frame of the same cursor",
    open: withPoll((poll) => async (jobId, tag) => {
      const answer = await poll(jobId, tag);
      return { ...answer, body: answer.body && JSON.stringify(JSON.parse(answer.body), null, 1) };
    }),
  },
};

describe("the kit finds", () => {
  test.each(Object.entries(faults))("%s", { timeout: 15_000 }, async (_name, { found, open }) => {
    const all = await results((collect) =>
      adapterContract({
        test: (name, run) => name === found && collect(name, run),
        open,
        supports: { watch: true, poll: true, delta: true },
      }),
    );
    expectFault(all, found);
  });
});
