import type { JobSummary } from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "../errors.js";
import type { JobQuery, MonitorClient } from "../types.js";

export interface ListView {
  /** Newest first; none until they have come. */
  readonly jobs: readonly JobSummary[];
  /** `cursor` of the next page's query; null: this is the last page, or it has not come yet. */
  readonly next: string | null;
  /** Nothing has come yet. */
  readonly isLoading: boolean;
  /** Why the last try has failed; `jobs` are those of the last that has not. */
  readonly error: MonitorClientError | null;
}

export const LOADING: ListView = { jobs: [], next: null, isLoading: true, error: null };

/** What a timer can wait; more is at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** A page of jobs that is read again and again while somebody listens and the page is visible. */
export interface JobList {
  readonly view: ListView;
  listen(listener: () => void): () => void;
  refetch(): void;
}

export function createList(client: MonitorClient, query: JobQuery, refreshMs: number): JobList {
  let view = LOADING;
  let onChange = () => {};
  let listening = false;
  let request = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Its time came while the page was hidden. */
  let due = false;

  const isHidden = () => typeof document !== "undefined" && document.hidden;

  function stop(): void {
    request.abort();
    clearTimeout(timer);
    due = false;
  }

  function refresh(): void {
    if (isHidden()) due = true;
    else void ask();
  }

  async function ask(): Promise<void> {
    stop();
    request = new AbortController();
    const { signal } = request;
    let waitMs = refreshMs;
    try {
      const { jobs, next } = await client.list(query, { signal });
      if (signal.aborted) return;
      view = { jobs, next, isLoading: false, error: null };
    } catch (thrown) {
      if (signal.aborted) return;
      const error = thrown as MonitorClientError;
      view = { ...view, isLoading: false, error };
      // Another try would fail alike: it is the user's to make.
      waitMs = error.retryable ? Math.max(waitMs, error.retryAfterMs ?? 0) : Infinity;
    }
    if (waitMs <= LONGEST_MS) timer = setTimeout(refresh, waitMs);
    onChange();
  }

  function look(): void {
    if (due) refresh();
  }

  return {
    get view() {
      return view;
    },
    listen(listener) {
      onChange = listener;
      listening = true;
      refresh();
      if (typeof document !== "undefined") document.addEventListener("visibilitychange", look);
      return () => {
        listening = false;
        stop();
        if (typeof document !== "undefined") document.removeEventListener("visibilitychange", look);
      };
    },
    refetch() {
      if (listening) void ask();
    },
  };
}
