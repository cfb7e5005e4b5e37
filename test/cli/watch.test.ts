import type { Connection, JobWatch, MonitorClient } from "@org/workflow-monitor-client";
import { describe, expect, test } from "vitest";
import { parseArguments, type WatchCommand } from "../../packages/cli/src/arguments.js";
import { watch } from "../../packages/cli/src/watch.js";
import { ManualClock, turns } from "../support/clock.js";
import { jobAfter, live, lost, plan, sink } from "./given.js";

/** A watch of a server that says what the test says. */
function started() {
  const stop = new AbortController();
  const clock = new ManualClock();
  const [stdout, stderr] = [sink(), sink()];
  const io = { stdout, stderr, env: {}, clock, signal: stop.signal };
  const listeners = new Map<string, ((...args: unknown[]) => void)[]>();
  const tell = (event: string, ...args: unknown[]) => {
    for (const listener of listeners.get(event) ?? []) listener(...args);
  };
  let connection: Connection = { ...live, state: "connecting" };
  let reject: (error: Error) => void = () => {};
  const finished = new Promise<never>((_, refuse) => {
    reject = refuse;
  });
  const close = () => reject(new Error("closed"));
  const watching = {
    get connection() {
      return connection;
    },
    on(event: string, listener: (...args: unknown[]) => void) {
      listeners.set(event, [...(listeners.get(event) ?? []), listener]);
    },
    finished: () => finished,
    close,
  };
  const client = {
    watch(_: string, { signal }: { signal: AbortSignal }) {
      signal.addEventListener("abort", close);
      return watching as unknown as JobWatch;
    },
  } as unknown as MonitorClient;
  const command = parseArguments(["watch", "http://host", "42"], {}) as WatchCommand;
  const connect = (next: Connection) => {
    connection = next;
    tell("connection", next);
  };
  return { code: watch(command, client, io), stop, clock, stderr, connect, tell };
}

describe("a server", () => {
  test("that was never reached is given up after half a minute, with the cause", async () => {
    const { code, clock, stderr, connect } = started();
    connect(lost("Nothing answers at http://host."));
    clock.advance(30_000);
    expect(await code).toBe(3);
    expect(stderr.text).toBe("Nothing answers at http://host.\n");
    expect(clock.timers).toBe(0);
  });

  test("that takes the connection and is silent is given up, too", async () => {
    const { code, clock, stderr } = started();
    clock.advance(30_000);
    expect(await code).toBe(3);
    expect(stderr.text).toBe("The server does not answer.\n");
  });

  test("that was reached once is waited for, until somebody stops it", async () => {
    const { code, clock, stderr, connect, tell, stop } = started();
    tell("change", jobAfter(plan(["build"])), { resumed: false });
    connect(lost("The line was cut."));
    clock.advance(3_600_000);
    await turns();
    stop.abort(130);
    expect(await code).toBe(130);
    expect(stderr.text).toBe("");
    expect(clock.timers).toBe(0);
  });
});
