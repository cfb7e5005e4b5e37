import type { JobSnapshot } from "@org/workflow-monitor/protocol";
import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { createObserver } from "./observer.js";
import { useClient } from "./provider.js";
import type { UseJobResult } from "./tracker.js";

export interface UseJobOptions<T> {
  /**
   * The job as the server has rendered it: shown at first, and watched from there on; not watched if
   * it is done. One of another job is ignored.
   */
  initial?: JobSnapshot | null | undefined;
  /** Default true. false: watches nothing, and shows what was known last. */
  enabled?: boolean | undefined;
  /**
   * What the component needs of the job. `job` is this then, and the same object while it is equal: the same
   * value, or an array or plain object with the same members. Has to be pure.
   */
  select?: ((job: JobSnapshot) => T) | undefined;
  /**
   * The job is over, also when it is found to be; with its last state, once for each watch. Not for
   * an `initial` that was done.
   */
  onDone?: ((job: JobSnapshot) => void) | undefined;
}

/**
 * Watches a job while the component is there; null: none. Renders at most once a frame, and only
 * when a field has changed that the component reads.
 *
 * @throws Error without a MonitorProvider
 */
export function useJob<T = JobSnapshot>(
  jobId: string | null,
  { initial = null, enabled = true, select, onDone }: UseJobOptions<T> = {},
): UseJobResult<T> {
  const client = useClient();
  const watches = enabled && jobId !== null;
  const observer = useMemo(() => createObserver<T>(client, jobId ?? ""), [client, jobId]);
  const latest = useRef(onDone);
  useEffect(() => {
    latest.current = onDone;
  });
  const subscribe = useCallback(
    (onChange: () => void) =>
      watches ? observer.subscribe(onChange, (job) => latest.current?.(job)) : () => {},
    [observer, watches],
  );
  const wish = { enabled: watches, initial, select };
  return useSyncExternalStore(
    subscribe,
    () => observer.read(wish),
    () => observer.readInitial(wish),
  );
}
