import { WorkflowMonitorError } from "@org/workflow-monitor";
import type { JobKeys } from "./layout.js";
import { wordsOf } from "./replies.js";

/**
 * Does something with a job's stored data. What Redis refuses, or does not answer, stays as it is; everything else
 * that goes wrong means that the data cannot be read: rejects with `damaged`, which names the keys.
 */
export async function withData<T>(
  jobId: string,
  { head, log }: JobKeys,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const { code } = thrown as WorkflowMonitorError;
    const ours = (thrown as Error).name === "WorkflowMonitorError";
    if (ours && code !== "damaged") throw thrown;
    const message =
      `The data of job ${JSON.stringify(jobId)} in Redis cannot be read (${wordsOf(thrown)}): ` +
      `delete the keys ${head} and ${log}. A publisher that still knows the job brings it back.`;
    throw new WorkflowMonitorError("damaged", message, { jobId });
  }
}
