import type { Mode, ViewerMessage } from "@org/workflow-monitor";
import { expect } from "vitest";
import type { TestServer } from "./server.js";
import { connect, type Viewer } from "./viewer.js";
import { until } from "./wait.js";

/** A connection that watches nothing yet, unless its URL says what. */
export async function openSubscriber(
  server: TestServer,
  url = `ws://127.0.0.1:${server.port}/ws`,
): Promise<Viewer> {
  const viewer = connect(url);
  await viewer.opened;
  return viewer;
}

export function send(viewer: Viewer, ...messages: object[]): void {
  for (const message of messages) viewer.socket.send(JSON.stringify(message));
}

export const subscribe = (jobId: string, more: { after?: string; mode?: Mode } = {}) =>
  ({ type: "subscribe", jobId, ...more }) satisfies ViewerMessage;

export const unsubscribe = (jobId: string) =>
  ({ type: "unsubscribe", jobId }) satisfies ViewerMessage;

/** A connection that has subscribed to these jobs, and has read the first frame of each. */
export async function watching(server: TestServer, ...jobs: string[]): Promise<Viewer> {
  const viewer = await openSubscriber(server);
  send(viewer, ...jobs.map((jobId) => subscribe(jobId)));
  for (const jobId of jobs) expect(await viewer.expect("snapshot")).toMatchObject({ jobId });
  return viewer;
}

/** What was sent before, and needs nothing but this server, is done when a ping after it is answered. */
export async function handled(viewer: Viewer): Promise<void> {
  const beats = () => viewer.frames.filter(({ type }) => type === "heartbeat").length;
  const before = beats();
  send(viewer, { type: "ping" });
  await until("the ping is answered", () => beats() > before);
}
