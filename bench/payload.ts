import {
  allowAll,
  createWorkflowMonitor,
  type Frame,
  type PublishedEvent,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";

/** The job that everybody watches, on every subject: ten stages, half of them done. */

export const JOB_ID = "nightly-import-4711";
const STAGES = [
  "checkout",
  "install",
  "lint",
  "compile",
  "unit-tests",
  "integration-tests",
  "package",
  "publish",
  "deploy",
  "verify",
];
const CURRENT = "integration-tests";

export type UpdateFrame = Extract<Frame, { type: "update" }>;

/** The events that make the job, or another one like it. */
export function beginning(jobId = JOB_ID): PublishedEvent[] {
  const plan: PublishedEvent = {
    type: "plan",
    jobId,
    name: "Nightly import",
    labels: { team: "platform", branch: "main" },
    stages: STAGES.map((stage, at) => ({
      stage,
      name: `Step ${at + 1}: ${stage}`,
      dependsOn: STAGES.slice(Math.max(0, at - 1), at),
      maxAttempts: 3,
    })),
  };
  const told = STAGES.slice(0, STAGES.indexOf(CURRENT) + 1).map(
    (stage): PublishedEvent => ({
      type: "stage",
      jobId,
      stage,
      status: stage === CURRENT ? "running" : "completed",
      message: stage === CURRENT ? message(0) : "done without warnings",
      metadata: { worker: "w-17", zone: "b" },
    }),
  );
  return [plan, ...told];
}

/** A message is never coalesced: each one is an update. */
const message = (n: number): string => `${String(n).padStart(7, "0")} rows of this night imported`;

export const updateEvent = (n: number): PublishedEvent => ({
  type: "stage",
  jobId: JOB_ID,
  stage: CURRENT,
  message: message(n),
});

/** Progress is whole percent and never falls; of what comes in one turn, the last is an update. */
export const progressEvent = (jobId: string, percent: number): PublishedEvent => ({
  type: "stage",
  jobId,
  stage: CURRENT,
  progress: percent,
});

export async function monitorWithJob(
  options: Partial<WorkflowMonitorOptions> = {},
): Promise<WorkflowMonitor> {
  const monitor = createWorkflowMonitor({ authorize: allowAll, ...options });
  for (const event of beginning()) await monitor.publish(event);
  return monitor;
}

/** The frame that our viewers get for an update: the peers send the same one. */
export async function sampleFrame(): Promise<UpdateFrame> {
  const monitor = await monitorWithJob();
  for await (const frame of monitor.watch(JOB_ID)) {
    if (frame.type === "snapshot") void monitor.publish(updateEvent(1));
    if (frame.type !== "update") continue;
    await monitor.close();
    return frame;
  }
  throw new Error("There was no update frame.");
}

/** What a host without a monitor would do for the n-th update: change its object, and send it. */
export function advance(frame: UpdateFrame, n: number): UpdateFrame {
  const { job, event } = frame;
  const stage = job?.stages.find(({ stage }) => stage === CURRENT);
  if (!job || !stage || event.type !== "stage") throw new Error("This is not the sample frame.");
  const timestamp = new Date().toISOString();
  frame.cursor = `${job.epoch}.${n}`;
  event.timestamp = timestamp;
  event.message = message(n);
  job.revision = n;
  job.updatedAt = timestamp;
  stage.updatedAt = timestamp;
  stage.message = message(n);
  return frame;
}
