import type { IncomingHttpHeaders } from "node:http";
import type { Frame, Mode, Transport, WorkflowMonitor } from "@org/workflow-monitor";
import type { History } from "@org/workflow-monitor/testing";
import { onTestFinished } from "vitest";
import { WebSocket } from "ws";
import { inTime } from "./wait.js";

/** One way to watch a job: what a watcher needs of a transport. */
export interface WatcherTransport {
  readonly transport: Transport;
  /** What it yields are bodies of `GET /jobs/:id`, no frames. */
  readonly bodies?: true;
  /**
   * One connection (or one request): the texts of its frames, until it is over, however it ends. An
   * abort cuts it without a goodbye. `finish` says that the job is over, where no `end` frame does.
   */
  connect(
    jobId: string,
    after: string | undefined,
    signal: AbortSignal,
    finish: () => void,
  ): AsyncIterable<string>;
}

/** Hears what a connection shows beside its frames. */
export interface WireListener {
  /** A WebSocket was closed. */
  closed?(code: number): void;
  /** The head of an HTTP response. */
  answered?(status: number, headers: IncomingHttpHeaders): void;
}

export interface Watcher {
  readonly viewer: string;
  /** Where it stands. */
  readonly cursor: string | undefined;
  /** Connections so far. */
  readonly connections: number;
  /** Closes its connection without a goodbye; it comes back with its cursor. */
  cut(): void;
  /** Resolves when `end` came and its connection closed; rejects with what it could not survive. */
  readonly ended: Promise<void>;
}

export interface WatcherOptions {
  history: History;
  viewer: string;
  jobId: string;
  /** Which transport to take for the n-th connection, from 1: a cursor is good on each of them. */
  over: WatcherTransport | ((connection: number) => WatcherTransport);
  /** Comes back also after a final refusal: the store may have lost the job for a moment. */
  stubborn?: boolean;
}

/**
 * A viewer that wants to see the end of a job: it comes back at once with its last cursor whenever
 * its connection is over, and records all that it gets. Stopped at the end of the test.
 */
export function startWatcher({
  history,
  viewer,
  jobId,
  over,
  stubborn = false,
}: WatcherOptions): Watcher {
  const stopped = new AbortController();
  onTestFinished(() => stopped.abort());
  let cut = () => {};
  let cursor: string | undefined;
  let connections = 0;
  let done = false;

  async function watchOnce(): Promise<void> {
    connections += 1;
    const { transport, connect } = typeof over === "function" ? over(connections) : over;
    const connection = new AbortController();
    cut = () => connection.abort();
    const signal = AbortSignal.any([connection.signal, stopped.signal]);
    history.joined({ viewer, jobId, ...(cursor === undefined && { after: null }) });
    const finish = () => {
      done = true;
    };
    for await (const text of connect(jobId, cursor, signal, finish)) {
      if (signal.aborted) return;
      history.observe({ viewer, transport, jobId, text });
      const frame = JSON.parse(text) as Frame;
      if (frame.type === "error" && !frame.retryable && !stubborn) throw new Error(frame.message);
      if ("cursor" in frame) cursor = frame.cursor;
      if (frame.type === "end") finish(); // and goes on: nothing may follow
    }
  }

  async function run(): Promise<void> {
    while (!done && !stopped.signal.aborted) {
      await watchOnce();
      await new Promise(setImmediate);
    }
  }

  const ended = run();
  ended.catch(() => {});
  return {
    viewer,
    get cursor() {
      return cursor;
    },
    get connections() {
      return connections;
    },
    cut: () => cut(),
    get ended() {
      return inTime(`the end of ${jobId} for ${viewer}`, ended, 20_000);
    },
  };
}

const openSocket = (port: number, query = ""): WebSocket =>
  new WebSocket(`ws://127.0.0.1:${port}/ws${query}`, { perMessageDeflate: false });

/** The messages of a socket until it is closed; an abort cuts it. */
async function* messages(
  socket: WebSocket,
  signal: AbortSignal,
  wire: WireListener,
): AsyncGenerator<string> {
  const texts: string[] = [];
  let open = true;
  let wake = () => {};
  socket.on("message", (data) => {
    texts.push(String(data));
    wake();
  });
  socket.on("close", (code) => {
    open = false;
    wire.closed?.(code);
    wake();
  });
  socket.on("error", () => {}); // `close` follows
  signal.addEventListener("abort", () => socket.terminate());
  while (open || texts.length > 0) {
    const text = texts.shift();
    if (text !== undefined) yield text;
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

/** WebSocket: one job a socket. */
export const overWebSocket = (
  port: number,
  mode: Mode = "full",
  wire: WireListener = {},
): WatcherTransport => ({
  transport: "ws",
  connect(jobId, after, signal) {
    const query = new URLSearchParams({ jobId, mode, ...(after !== undefined && { after }) });
    return messages(openSocket(port, `?${query}`), signal, wire);
  },
});

/** A WebSocket that was opened for no job, and subscribes to this one. */
export const overSubscription = (
  port: number,
  mode: Mode = "full",
  wire: WireListener = {},
): WatcherTransport => ({
  transport: "ws",
  connect(jobId, after, signal) {
    const socket = openSocket(port);
    socket.on("open", () => socket.send(JSON.stringify({ type: "subscribe", jobId, after, mode })));
    return messages(socket, signal, wire);
  },
});

/** A viewer in the monitor's process. */
export const inProcess = (monitor: WorkflowMonitor): WatcherTransport => ({
  transport: "watch",
  async *connect(jobId, after, signal) {
    const from = after === undefined ? {} : { after };
    for await (const frame of monitor.watch(jobId, { ...from, signal }))
      yield JSON.stringify(frame);
  },
});
