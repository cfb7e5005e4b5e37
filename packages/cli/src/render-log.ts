import type {
  Connection,
  JobSnapshot,
  StageSnapshot,
  Status,
  WorkflowEvent,
} from "@org/workflow-monitor-client";
import { readStage } from "./job.js";
import { printable } from "./text.js";
import type { Clock, Output, View } from "./view.js";
import { attemptWords, connectionWords, countWords, elapsed, nameOf, why } from "./words.js";

/** What was last said of a stage. */
interface Told {
  status: Status;
  attempt: number;
}

type StageEvent = Extract<WorkflowEvent, { type: "stage" }>;
type Transition = Told & Pick<StageSnapshot, "stage" | "reason" | "message" | "error">;

/**
 * The watch as a log: one line for each transition of the job, its stages and the connection. What
 * only moves a percentage or changes a message says nothing.
 */
export function logView(output: Output, clock: Pick<Clock, "now">): View {
  const told = new Map<string, Told>();
  let last: JobSnapshot | undefined;
  /** Events come before the change that they make; the job's line stands before its stages'. */
  let waiting: StageEvent[] = [];
  let connected = "";

  const now = () => new Date(clock.now()).toISOString();
  /** A server may keep to itself when something happened. */
  const say = (timestamp: string, words: string) =>
    void output.write(`${timestamp || now()} ${words}\n`);

  const sayJob = (job: JobSnapshot, ...more: string[]) => {
    const facts = [job.status as string, ...more].filter(Boolean).join(", ");
    const cause = why(job);
    say(job.updatedAt, `job ${nameOf(job)}: ${facts}${cause && `: ${cause}`}`);
  };

  /** Says what is new of a stage, and remembers it. */
  const sayStage = (timestamp: string, transition: Transition, maxAttempts?: number | null) => {
    const { stage, status, attempt } = transition;
    const before = told.get(stage);
    if (before?.status === status && before.attempt === attempt) return;
    told.set(stage, { status, attempt });
    if (status === "pending" && before === undefined) return;
    const words = attemptWords(attempt, maxAttempts);
    const cause = why(transition);
    say(
      timestamp,
      `stage ${printable(stage)}: ${status}${words && ` (${words})`}${cause && `: ${cause}`}`,
    );
  };

  /** Where the watch begins: the job and what it is doing, not all that it has done (but what was asked for). */
  const begin = (job: JobSnapshot) => {
    const counts = countWords(job.counts);
    sayJob(job, job.indeterminate ? "" : `${job.progress} %`, counts && `stages: ${counts}`);
    const replayed = new Set(waiting.map(({ stage }) => stage));
    for (const { stage, status, attempt } of job.stages) {
      const active = status === "running" || status === "waiting";
      if (!active && !replayed.has(stage)) told.set(stage, { status, attempt });
    }
  };

  /** What happened before the state that `job` shows, stage by stage. */
  const sayEvents = (job: JobSnapshot) => {
    const known = new Map(job.stages.map((stage) => [stage.stage, stage]));
    for (const event of waiting) {
      const before = told.get(event.stage);
      const { status = before?.status, attempt = before?.attempt, timestamp: updatedAt } = event;
      for (const transition of readStage({ ...event, status, attempt, updatedAt })) {
        const { stage } = transition;
        sayStage(transition.updatedAt, transition, known.get(stage)?.maxAttempts);
      }
    }
    waiting = [];
  };

  return {
    change(job, { resumed }) {
      if (last === undefined) begin(job);
      else {
        if (!resumed) say(job.updatedAt, `job ${nameOf(job)}: some of its events were missed`);
        if (job.run !== last.run) {
          told.clear();
          sayJob(job, `run ${job.run}`);
        } else if (job.status !== last.status && !job.done) sayJob(job);
      }
      sayEvents(job);
      // What has no event of its own: what a job's end or a lost history did to its stages.
      for (const stage of job.stages) sayStage(stage.updatedAt, stage, stage.maxAttempts);
      last = job;
    },
    event(event) {
      if (event?.type === "stage") waiting.push(event);
    },
    connection(connection) {
      const words = worthSaying(connection, connected);
      if (words === undefined) return;
      connected = words;
      say(now(), `connection: ${words}`);
    },
    done(job) {
      const took = elapsed(job, clock.now());
      sayJob(job, job.indeterminate ? "" : `${job.progress} %`, took === null ? "" : `in ${took}`);
    },
    failed() {},
    close() {},
  };
}

/** Losses, with each new cause once, and what came after one; neither countdowns nor how it began. */
function worthSaying(connection: Connection, before: string): string | undefined {
  const { state } = connection;
  if (state === "connecting" || state === "ended" || state === "failed") return undefined;
  const words = connectionWords(connection);
  if (words === before || (state === "reconnecting" && !connection.cause && before)) {
    return undefined;
  }
  return words;
}
