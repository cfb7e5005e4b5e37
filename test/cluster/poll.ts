import type { WebNode } from "./viewers.js";

/** What a node says of a job. */
export interface Polled {
  /** 0: no answer. */
  status: number;
  stale: boolean;
  retryAfter: string | null;
  text: string;
}

export async function pollJob({ port }: WebNode, jobId: string): Promise<Polled> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/jobs/${encodeURIComponent(jobId)}`);
    const { status, headers } = response;
    const stale = headers.get("stale") === "true";
    return { status, stale, retryAfter: headers.get("retry-after"), text: await response.text() };
  } catch (thrown) {
    const text = String((thrown as Error).cause ?? thrown);
    return { status: 0, stale: false, retryAfter: null, text };
  }
}
