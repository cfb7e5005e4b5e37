import {
  createMonitorClient,
  type Host,
  type JobWatch,
  type MonitorClientError,
  type MonitorClientOptions,
  type NetworkEvent,
  type WorkflowEvent,
} from "@org/workflow-monitor-client";
import { onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { platform } from "../../packages/client/src/host.js";

/** A host whose network the test speaks for. */
export function testHost(over: Partial<Host> = {}): Host & { network(event: NetworkEvent): void } {
  const listeners = new Set<(event: NetworkEvent) => void>();
  return {
    ...platform,
    onNetwork(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    network(event) {
      for (const listener of listeners) listener(event);
    },
    ...over,
  };
}

/** A client of a server on this machine, closed at the end of the test. */
export function startClient(
  port: number,
  options: Partial<MonitorClientOptions> = {},
  host: Host = testHost(),
) {
  const url = `http://127.0.0.1:${port}`;
  const client = createMonitorClient({ url, WebSocket, ...options }, host);
  onTestFinished(() => client.close());
  return client;
}

/** Everything that a watch tells, in order. */
export function record(watch: JobWatch) {
  const events: { cursor: string; event: WorkflowEvent }[] = [];
  const connections: string[] = [];
  const gaps: number[] = [];
  const calls: string[] = [];
  let done = 0;
  watch.on("event", (event, { cursor }) => {
    events.push({ cursor, event });
    calls.push("event");
  });
  watch.on("change", ({ revision }, { resumed }) => {
    if (!resumed) gaps.push(revision);
    calls.push("change");
  });
  watch.on("done", () => {
    done += 1;
    calls.push("done");
  });
  watch.on("connection", ({ state }) => {
    if (connections.at(-1) !== state) connections.push(state);
  });
  return {
    events,
    /** The states, without repetition. */
    connections,
    /** Revisions of states before which events are unknown. */
    gaps,
    calls,
    get done() {
      return done;
    },
    get revisions() {
      return events.map(({ cursor }) => Number(cursor.split(".")[1]));
    },
  };
}

/** The error of a watch that cannot be. */
export async function failure(watch: JobWatch): Promise<MonitorClientError> {
  return watch.finished().then(
    () => {
      throw new Error("the watch has ended well");
    },
    (error: MonitorClientError) => error,
  );
}
