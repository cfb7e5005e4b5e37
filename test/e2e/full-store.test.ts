import { printCursor } from "@org/workflow-monitor";
import { expect, test } from "vitest";
import { startServer } from "../support/server.js";

interface SnapshotFrame {
  resumed: boolean;
  done: boolean;
  events: unknown[];
  job: { status: string };
}

test("[S8] [R15] a done job whose history had to go is still shown: resumed is false for a viewer with a cursor", async () => {
  const server = await startServer({ limits: { totalBytes: 400_000 } });
  const { monitor } = server;
  const cursor = await monitor.publish({ type: "job", jobId: "first", status: "running" });
  await monitor.publish({ type: "job", jobId: "first", status: "completed" });
  const read = async () =>
    (await server.get(`/jobs/first/events?after=${printCursor(cursor)}`)).json<SnapshotFrame>();
  expect(await read()).toMatchObject({ resumed: true, events: [{ status: "completed" }] });
  const message = "x".repeat(500);
  for (let n = 0; n < 20; n++) {
    const jobId = `job-${n}`;
    await Promise.all(
      Array.from({ length: 40 }, (_, count) =>
        monitor.publish({ type: "job", jobId, message: `${count} ${message}` }),
      ),
    );
    await monitor.publish({ type: "job", jobId, status: "completed" });
  }
  expect(await read()).toMatchObject({
    resumed: false,
    done: true,
    events: [],
    job: { status: "completed" },
  });
  expect((await server.poll("job-19")).json()).toMatchObject({ status: "completed" });
});
