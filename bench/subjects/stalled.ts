import { rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  allowAll,
  createWorkflowMonitor,
  type PublishedEvent,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import type { SubjectStats } from "../messages.js";
import { JOB_ID, monitorWithJob, updateEvent } from "../payload.js";
import { listen, type Subject } from "./subject.js";

/** Monitors with viewers that stop reading. */

/** No viewer is closed while it is measured. */
const PATIENCE = { stallTimeoutMs: 600_000, heartbeatMs: 600_000 };

/** The job that everybody watches. */
export async function patient(): Promise<Subject> {
  const monitor = await monitorWithJob(PATIENCE);
  const server = createServer();
  attachWebSocket(server, { monitor });
  return {
    listen: () => listen(server, `/ws?jobId=${JOB_ID}`, "frames"),
    update(n) {
      void monitor.publish(updateEvent(n));
    },
    stats: countedFrom(monitor),
  };
}

export const large = (): Promise<Subject> => withLargeJob({});
export const largeAndPatient = (): Promise<Subject> => withLargeJob(PATIENCE);

const STAGES = 500;
const textOf = (n: number, length: number): string =>
  `${n} `.repeat(Math.ceil(length / 2)).slice(0, length);

/**
 * A job whose snapshot is some 200 KB, and events of 1 KB, so that much is appended in little time. On
 * a Unix socket, for which the kernel holds 200 KB: on a loopback TCP socket, which holds megabytes of
 * what a viewer does not read, viewers would stall only after many snapshots, and most of them at the
 * same one.
 */
async function withLargeJob(options: Partial<WorkflowMonitorOptions>): Promise<Subject> {
  const monitor = createWorkflowMonitor({ authorize: allowAll, ...options });
  const stages = Array.from({ length: STAGES }, (_, at) => ({
    stage: `stage-${at + 1}`,
    name: textOf(at, 160),
  }));
  await monitor.publish({ type: "plan", jobId: JOB_ID, stages });
  const server = createServer();
  attachWebSocket(server, { monitor });
  const stats = countedFrom(monitor);
  let bytes = 0;
  return {
    listen: () => listenOnSocket(server),
    update(n) {
      const event: PublishedEvent = {
        type: "stage",
        jobId: JOB_ID,
        stage: "stage-1",
        message: textOf(n, 400),
        metadata: { note: textOf(n, 500) },
      };
      bytes += JSON.stringify(event).length;
      return monitor.publish(event);
    },
    stats: () => ({ ...stats(), bytes }),
  };
}

function countedFrom(monitor: WorkflowMonitor): () => SubjectStats {
  let left = 0;
  monitor.on("leave", () => {
    left += 1;
  });
  return () => {
    const { viewers, parked } = monitor.stats();
    return { viewers: viewers.ws, parked, left, bytes: 0 };
  };
}

function listenOnSocket(server: ReturnType<typeof createServer>): ReturnType<Subject["listen"]> {
  const path = join(tmpdir(), `workflow-monitor-bench-${process.pid}.sock`);
  process.once("exit", () => rmSync(path, { force: true }));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, 4096, () =>
      resolve({ to: { path }, path: `/ws?jobId=${JOB_ID}`, dialect: "frames" }),
    );
  });
}
