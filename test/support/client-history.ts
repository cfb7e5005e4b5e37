import type { History } from "@org/workflow-monitor/testing";
import type { JobSnapshot, JobWatch, WorkflowEvent } from "@org/workflow-monitor-client";

/** Tells a history what a watch tells, as the frames that would say the same. */
export function observeWatch(
  history: History,
  viewer: string,
  watch: JobWatch,
  after: string | null = null,
): void {
  const { jobId } = watch;
  const cursorOf = ({ epoch, revision }: JobSnapshot) => `${epoch}.${revision}`;
  let events: WorkflowEvent[] = [];
  const observe = (frame: object) => {
    const text = JSON.stringify({ jobId, ...frame });
    history.observe({ viewer, transport: "watch", text });
  };
  history.joined({ viewer, jobId, after });
  watch.on("event", (event) => events.push(event));
  watch.on("change", (job, { resumed }) => {
    const { done } = job;
    observe({ type: "snapshot", cursor: cursorOf(job), resumed, done, events, job });
    events = [];
  });
  watch.on("done", (job) => observe({ type: "end", cursor: cursorOf(job), status: job.status }));
}
