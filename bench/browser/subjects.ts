/** What is put on a page. `by hand`: a plain socket and a table. */
export const PAGE_SUBJECTS = ["client", "job", "graph", "timeline", "all", "by hand"] as const;
export type PageSubject = (typeof PAGE_SUBJECTS)[number];

export interface FirstPaint {
  /** Milliseconds from the first state's arrival until the beginning of the frame that finds it in the DOM. */
  ms: number;
  /** That frame's number: what is drawn in the first one is there at the second. */
  frames: number;
}

export interface Seen {
  /** The page's clock, in milliseconds. */
  at: number;
  /** The newest that has come. */
  revision: number;
  /** The oldest of what the page shows. */
  oldest: number;
  messages: number;
  /** How often a view has shown something new; of several, the one that has least often. */
  shows: number;
  /** Milliseconds of the longest task of at least 50 ms; 0: none. */
  longest: number;
  /** The graph is laid out. */
  settled: boolean;
}

/** What the page offers to who measures it. */
export interface PageBench {
  begin(subject: PageSubject, jobId: string): Promise<FirstPaint>;
  seen(): Seen;
  forget(): void;
}
