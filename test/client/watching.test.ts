import type { ClientTransport } from "@org/workflow-monitor-client";
import { describe, expect, test } from "vitest";
import { record, startClient } from "../support/client.js";
import { range } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";

const STATES = { ws: "live", sse: "live", poll: "polling" } as const;

describe.each(["ws", "sse", "poll"] as const)("watching over %s", (transport) => {
  const transports: ClientTransport[] = [transport];

  test("shows the state at once, each event once, and the end", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
    const watch = startClient(server.port, { transports }).watch("a");
    const seen = record(watch);
    await until("it is shown", () => watch.snapshot !== null);
    await until("it is live", () => watch.connection.state === STATES[transport]);
    expect(watch.connection).toMatchObject({ transport, cause: null, retryAt: null, stale: false });
    for (const n of range(1, 20)) server.engine.emit("job", { jobId: "a", message: `${n}` });
    await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
    const last = await watch.finished();
    expect(last).toMatchObject({ status: "completed", done: true, progress: 100 });
    expect(seen.revisions).toEqual(range(2, 22));
    expect(seen).toMatchObject({ gaps: [1], done: 1 });
    expect(seen.calls.at(-1)).toBe("done");
    expect(seen.connections).toEqual([STATES[transport], "ended"]);
    expect(watch.snapshot).toEqual(JSON.parse((await server.poll("a")).body.toString()));
    await until("nothing is open", () => {
      const { viewers } = server.monitor.stats();
      return Object.values(viewers).every((count) => count === 0);
    });
  });

  test("is a loop over states, which ends with the terminal one", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
    const seen: number[] = [];
    let last = "";
    for await (const job of startClient(server.port, { transports }).watch("a")) {
      seen.push(job.revision);
      last = job.status;
      if (seen.length < 5) server.engine.emit("job", { jobId: "a", message: `${seen.length}` });
      else server.engine.emit("job", { jobId: "a", status: "failed" });
    }
    expect(last).toBe("failed");
    expect(seen).toEqual(range(1, 6));
  });
});
