/** What a host asks of a server in good faith, and what is heavy. */
export interface Load {
  readonly name: string;
  /** Viewers of the big job. */
  readonly viewersOfBig?: number;
  /** So many events at once of the big job, this often. */
  readonly updates?: number;
  readonly everyMs?: number;
  /** Further jobs on the server. */
  readonly jobs?: number;
  /** An attack that comes with it, by its name. */
  readonly attack?: string;
}

export const loads: readonly Load[] = [
  { name: "500 viewers of a 1.6 MB job", viewersOfBig: 500, updates: 1, everyMs: 500 },
  { name: "64 events at once on 5,000 stages", updates: 64, everyMs: 250 },
  {
    name: "64 events at once on 5,000 stages, watched",
    viewersOfBig: 1,
    updates: 64,
    everyMs: 250,
  },
  { name: "lists of 10,000 jobs", jobs: 9_998, attack: "lists, one after another" },
];
