import { type MonitorClient, MonitorClientError } from "@org/workflow-monitor-client";
import type { WatchCommand } from "./arguments.js";
import { ExitCode, exitCodeOf } from "./exit-codes.js";
import type { Io } from "./io.js";
import { readJob } from "./job.js";
import { jsonView } from "./render-json.js";
import { logView } from "./render-log.js";
import { terminalView } from "./render-terminal.js";
import { printable } from "./text.js";
import type { View } from "./view.js";

/**
 * A server that was never reached is given up after so long: the url is wrong more often than a server is late. One
 * that was reached is tried for ever.
 */
const FIRST_ANSWER_MS = 30_000;

/** Shows a job until it is over, cannot be watched, or `io.signal` says stop; resolves to the exit code. */
export async function watch(command: WatchCommand, client: MonitorClient, io: Io): Promise<number> {
  const view = viewFor(command, io);
  const { signal, clock, stderr } = io;
  const { jobId, after } = command;
  const watching = client.watch(jobId, { signal, ...(after !== undefined && { after }) });
  let givenUp: MonitorClientError | undefined;
  const stopWaiting = clock.setTimeout(() => {
    givenUp = watching.connection.cause ?? silence();
    watching.close();
  }, FIRST_ANSWER_MS);
  try {
    view.connection(watching.connection);
    watching.on("connection", view.connection);
    watching.on("event", view.event);
    watching.on("change", (job, info) => {
      try {
        view.change(job, info);
      } catch (thrown) {
        givenUp = thrown as MonitorClientError;
        watching.close();
      }
    });
    watching.on("change", stopWaiting);
    const job = await watching.finished();
    view.done(job);
    return exitCodeOf(job.status);
  } catch (error) {
    if (signal.aborted) return signal.reason as number;
    const cause = givenUp ?? (error as MonitorClientError);
    view.failed(cause);
    stderr.write(`${printable(cause.message)}\n`);
    return ExitCode.notWatched;
  } finally {
    stopWaiting();
    view.close();
    watching.close();
  }
}

const silence = () => new MonitorClientError("unreachable", "The server does not answer.");

function viewFor({ json, jobId, noColor }: WatchCommand, { stdout, env, clock }: Io): View {
  if (json) return jsonView(stdout);
  if (!stdout.isTTY || env.TERM === "dumb") return forPeople(logView(stdout, clock), jobId);
  const colors = !noColor && (stdout.hasColors?.() ?? true);
  return forPeople(terminalView(stdout, { title: printable(jobId), colors, clock }), jobId);
}

/** The view with jobs as it knows them. `change` and `done` throw a MonitorClientError for others. */
const forPeople = (view: View, jobId: string): View => ({
  ...view,
  change: (job, info) => view.change(readJob(job, jobId), info),
  done: (job) => view.done(readJob(job, jobId)),
});
