import type { ProgressInput, StageContext } from "@org/workflow-monitor";
import type { Job } from "bullmq";

/** Tells BullMQ what a stage tells, each whole percent once. A stage never waits for that. */
export function tellProgress(job: Job): { context: StageContext; told(): Promise<void> } {
  const report: { progress?: ProgressInput; message?: string } = {};
  let percent = -1;
  let last = Promise.resolve();

  function tell(): void {
    const said = { ...report };
    last = last.then(() => job.updateProgress(said)).catch(() => {}); // the work matters, not this
  }

  return {
    context: {
      progress(progress) {
        const now = percentOf(progress);
        if (now === percent) return;
        percent = now;
        report.progress = progress;
        tell();
      },
      message(message) {
        report.message = message;
        tell();
      },
      signal: new AbortController().signal, // nobody cancels an inventory
    },
    /** Everything so far has been told. */
    told: () => last,
  };
}

function percentOf(progress: ProgressInput): number {
  if (typeof progress === "number") return Math.floor(progress);
  const { current, total } = progress ?? {};
  return total ? Math.floor((100 * (current ?? 0)) / total) : 0;
}
