import type { StageSnapshot, Status } from "@org/workflow-monitor-client";

/** Begun and not ended. */
export const isActive = (status: Status): boolean => status === "running" || status === "waiting";

/** `retrying` and the like, for people. */
const words = (reason: string): string => reason.replaceAll("_", " ");

/** The status as a word, with its reason if there is one: `skipped (not run)`. */
export const statusText = ({
  status,
  reason,
}: {
  status: Status;
  reason: string | null;
}): string => (reason ? `${status} (${words(reason)})` : status);

/** `attempt 2 of 3`; empty when there is nothing to tell of a first and only one. */
export function attemptText({ attempt, maxAttempts }: StageSnapshot): string {
  if (attempt === 1 && (maxAttempts ?? 1) === 1) return "";
  return maxAttempts === null ? `attempt ${attempt}` : `attempt ${attempt} of ${maxAttempts}`;
}
