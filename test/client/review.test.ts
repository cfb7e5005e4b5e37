import { describe, expect, test } from "vitest";
import { failure, startClient } from "../support/client.js";
import { startServer } from "../support/server.js";
import { startStranger } from "../support/stranger.js";
import { until } from "../support/wait.js";

describe("somebody else's JSON", () => {
  test.each(["[]", "{}", '"jobs"', "null", '{"type":"list"}'])(
    "%s is no workflow monitor, which is told at once",
    async (text) => {
      const { port, asked } = await startStranger((_, response) => {
        response.writeHead(200, { "content-type": "application/json" }).end(text);
      });
      const error = await failure(startClient(port, { transports: ["poll"] }).watch("a"));
      expect(error).toMatchObject({ code: "bad_answer", retryable: false });
      expect(asked.length).toBe(1);
    },
  );
});

test("event streams that end empty are no way: the next transport is tried", async () => {
  const server = await startServer();
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  const { port } = await startStranger((request, response) => {
    if (request.headers.accept === "text/event-stream") {
      response.writeHead(200, { "content-type": "text/event-stream" }).end();
      return;
    }
    void fetch(`http://127.0.0.1:${server.port}${request.url}`).then(async (answer) => {
      const type = answer.headers.get("content-type") ?? "";
      response.writeHead(answer.status, { "content-type": type }).end(await answer.text());
    });
  });
  const watch = startClient(port, { transports: ["sse", "poll"] }).watch("a");
  await until("it is shown", () => watch.snapshot !== null);
  expect(watch.connection).toMatchObject({ state: "polling", transport: "poll" });
});

test.each(["ws", "poll"] as const)("line breaks in a token are left out: %s", async (transport) => {
  const seen: unknown[] = [];
  const server = await startServer({
    authorize: ({ headers }) => seen.push(headers.authorization) > 0,
  });
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  const token = "two\r\nlines\0\n";
  const watch = startClient(server.port, { token, transports: [transport] }).watch("a");
  await until("it is shown", () => watch.snapshot !== null);
  expect(seen[0]).toBe("Bearer twolines");
});

test("a loop can be left while it waits", async () => {
  const { port } = await startStranger(() => {});
  const watch = startClient(port, { transports: ["poll"] }).watch("a");
  const loop = watch[Symbol.asyncIterator]();
  const next = loop.next();
  expect(await loop.return?.()).toEqual({ done: true, value: undefined });
  expect(await next).toEqual({ done: true, value: undefined });
  expect(watch.connection.cause?.code).toBe("closed");
});
