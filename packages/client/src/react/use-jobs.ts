import { useMemo, useSyncExternalStore } from "react";
import type { JobQuery } from "../types.js";
import { createList, type ListView, LOADING } from "./list.js";
import { useClient } from "./provider.js";

export interface UseJobsOptions {
  /**
   * How long after an answer the list is read again; if the page is hidden then, when it is looked at
   * again. Default 5,000. `Infinity`: only by `refetch`.
   */
  refreshMs?: number | undefined;
}

export interface UseJobsResult extends ListView {
  /** Reads the list now. The same function while the query is the same. */
  refetch(): void;
}

/**
 * A page of jobs, read again while the component is there and the page is visible: jobs may come at
 * any time. Stops at an error that another try would not heal, until `refetch`. Another query begins empty.
 *
 * @throws Error without a MonitorProvider
 */
export function useJobs(
  query: JobQuery = {},
  { refreshMs = 5_000 }: UseJobsOptions = {},
): UseJobsResult {
  const client = useClient();
  // A query is usually written in place, and another object at each render.
  const key = JSON.stringify(query);
  const list = useMemo(
    () => createList(client, JSON.parse(key) as JobQuery, refreshMs),
    [client, key, refreshMs],
  );
  const view = useSyncExternalStore(
    list.listen,
    () => list.view,
    () => LOADING,
  );
  return { ...view, refetch: list.refetch };
}
