/** The vocabulary of jobs and stages. `completed` is success; `waiting` is started, but blocked on something outside. */
export type Status =
  | "pending"
  | "running"
  | "waiting"
  | "completed"
  | "failed"
  | "cancelled"
  | "skipped";

export const STATUSES: readonly Status[] = [
  "pending",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
  "skipped",
];

/** Other engines' words for the same, accepted on input only. */
const ALIASES = {
  queued: "pending",
  active: "running",
  in_progress: "running",
  success: "completed",
  succeeded: "completed",
  error: "failed",
  canceled: "cancelled",
} as const satisfies Record<string, Status>;

/** What an event may say: a status or an alias of one. */
export type StatusInput = Status | keyof typeof ALIASES;

const byWord: ReadonlyMap<unknown, Status> = new Map<unknown, Status>([
  ...STATUSES.map((status) => [status, status] as const),
  ...Object.entries(ALIASES),
]);

/** The status that a word stands for; undefined when it stands for none. */
export const parseStatus = (word: unknown): Status | undefined => byWord.get(word);

/** Started and not ended. */
export const isActive = (status: Status): boolean => status === "running" || status === "waiting";

/** Ended, for this run and attempt. */
export const isTerminal = (status: Status): boolean => status !== "pending" && !isActive(status);
