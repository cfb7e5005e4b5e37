import { parseCursor } from "@org/workflow-monitor";
import { createMonitorClient, type JobWatch } from "@org/workflow-monitor-client";
import { WebSocket } from "ws";
import { answer } from "./child.js";
import type { RecoveryCalls } from "./messages.js";
import { JOB_ID } from "./payload.js";

/** Clients as a page or a program has them, each with a connection of its own. */

interface Client {
  watch: JobWatch;
  /** When its last try began, in milliseconds since 1970; undefined: it has not lost its line. */
  triedAt: number | undefined;
  recoveredMs: number | undefined;
  revisions: number[];
}
const clients: Client[] = [];

answer<RecoveryCalls>({
  async watch(url, count) {
    for (let n = 0; n < count; n++) {
      const watch = createMonitorClient({
        url,
        WebSocket: WebSocket as never,
        transports: ["ws"],
      }).watch(JOB_ID);
      const client: Client = { watch, triedAt: undefined, recoveredMs: undefined, revisions: [] };
      clients.push(client);
      watch.on("event", (_event, { cursor }) =>
        client.revisions.push(parseCursor(cursor)?.revision ?? 0),
      );
      watch.on("connection", ({ state, retryAt }) => {
        if (retryAt !== null) client.triedAt = retryAt;
        if (state !== "live" || client.triedAt === undefined) return;
        client.recoveredMs = Date.now() - client.triedAt;
        client.triedAt = undefined;
      });
    }
    await until(() => clients.every(({ watch }) => watch.connection.state === "live"));
    for (const client of clients) client.recoveredMs = undefined;
  },
  async recovered() {
    await until(() => clients.every(({ recoveredMs }) => recoveredMs !== undefined));
    return clients.map(({ recoveredMs }) => recoveredMs as number);
  },
  async missed(revision) {
    await until(() => clients.every(({ watch }) => watch.snapshot?.revision === revision));
    let wrong = 0;
    for (const { watch, revisions } of clients) {
      const [first = revision] = revisions;
      for (let n = 0; n <= revision - first; n++) if (revisions[n] !== first + n) wrong += 1;
      watch.close();
    }
    return wrong;
  },
});

async function until(holds: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error("Clients did not come to where they should be.");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
