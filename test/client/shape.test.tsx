// @vitest-environment happy-dom
import type { JobSnapshot } from "@org/workflow-monitor";
import type { ClientTransport } from "@org/workflow-monitor-client";
import { waitFor } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { record, startClient } from "../support/client.js";
import { range } from "../support/frames.js";
import { fetchAnywhere, probe, show } from "../support/react.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";

const present = ({ status, progress }: JobSnapshot) => ({ state: status, percent: progress });
type Shape = ReturnType<typeof present>;

async function startShaped(transports?: ClientTransport[]) {
  const server = await startServer({ present });
  await server.monitor.publish({ type: "plan", jobId: "a", stages: [{ stage: "x" }] });
  const options = { fetch: fetchAnywhere, ...(transports && { transports }) };
  return { server, client: startClient(server.port, options) };
}

describe("[S6] [R16] a job in a shape of the host's own", () => {
  test.each(["ws", "poll"] as const)(
    "is watched over %s: each event once, and the end with the last shape",
    async (transport) => {
      const { server, client } = await startShaped([transport]);
      const watch = client.watch("a");
      const seen = record(watch);
      await until("it is shown", () => watch.snapshot !== null);
      for (const n of range(1, 10))
        await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", message: `${n}` });
      await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", status: "completed" });
      expect(await watch.finished()).toEqual({ state: "completed", percent: 100 });
      expect(seen.events.map(({ event }) => event)).toEqual(
        range(1, 11).map(() => ({ type: "job", timestamp: expect.any(String) })),
      );
      expect(new Set(seen.events.map(({ cursor }) => cursor)).size).toBe(11);
      expect(seen.gaps).toHaveLength(1); // the first state
      expect(seen.done).toBe(1);
    },
  );

  test("is listed", async () => {
    const { client } = await startShaped();
    expect(await client.list()).toEqual({ jobs: [{ state: "pending", percent: 0 }], next: null });
    await expect(client.list({ label: "a:b" })).rejects.toMatchObject({
      code: "bad_request",
      retryable: false,
    });
  });

  test("is shown by a component that selects from it, again when it comes back, and to its end", async () => {
    const { server, client } = await startShaped();
    const { Probe } = probe<Shape>(({ job, isDone }) => `${job?.state} ${job?.percent} ${isDone}`);
    const select = (job: JobSnapshot) => job as unknown as Shape;
    const page = show(client, <Probe select={select} />);
    await waitFor(() => expect(page.text()).toBe("pending 0 false"));
    await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", progress: 40 });
    await waitFor(() => expect(page.text()).toBe("running 40 false"));
    page.unmount();
    const again = show(client, <Probe select={select} />);
    await waitFor(() => expect(again.text()).toBe("running 40 false"));
    await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", status: "completed" });
    await waitFor(() => expect(again.text()).toBe("completed 100 true"));
  });
});
