import { parseArgs } from "node:util";
import type { ClientTransport, Status } from "@org/workflow-monitor-client";
import { STATUSES } from "./job.js";
import { parseTarget, type Target, UsageError } from "./target.js";

export interface WatchCommand extends Target {
  name: "watch";
  jobId: string;
  json: boolean;
  transport?: ClientTransport;
  after?: string;
}

export interface ListCommand extends Target {
  name: "list";
  json: boolean;
  status?: Status;
  label?: string;
  limit: number;
}

export type Command = WatchCommand | ListCommand | { name: "help" } | { name: "version" };

const options = {
  json: { type: "boolean" },
  transport: { type: "string" },
  after: { type: "string" },
  status: { type: "string" },
  label: { type: "string" },
  limit: { type: "string" },
  token: { type: "string" },
  "jobs-path": { type: "string" },
  "ws-path": { type: "string" },
  "no-color": { type: "boolean" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

const notFor = { watch: ["status", "label", "limit"], list: ["transport", "after"] } as const;

const transports: readonly ClientTransport[] = ["ws", "sse", "poll"];

/** What the command line asks for. Throws a `UsageError`. */
export function parseArguments(args: string[], env: NodeJS.ProcessEnv): Command {
  const { values, positionals } = parse(args);
  if (values.help) return { name: "help" };
  if (values.version) return { name: "version" };
  const [name, url, ...rest] = positionals;
  if (name === undefined) throw new UsageError("A command is missing: watch or list.");
  if (name !== "watch" && name !== "list") {
    throw new UsageError(`There is no command ${name}: watch or list.`);
  }
  for (const option of notFor[name]) {
    if (values[option] !== undefined) throw new UsageError(`${name} does not take --${option}.`);
  }
  if (url === undefined) throw new UsageError(`${name} needs the url of a server.`);
  const [jobId, surplus] = name === "watch" ? rest : [undefined, rest[0]];
  if (surplus !== undefined) throw new UsageError(`${surplus} is one argument too many.`);

  const target = parseTarget({
    url,
    jobsPath: values["jobs-path"],
    wsPath: values["ws-path"],
    token: values.token ?? env.WORKFLOW_MONITOR_TOKEN,
    noColor: values["no-color"] ?? Boolean(env.NO_COLOR),
    jobInUrl: name === "watch" && jobId === undefined,
  });
  const json = values.json ?? false;
  if (name === "list") return { name, ...target, json, ...listOptions(values) };
  const job = jobId ?? target.jobId;
  if (!job) throw new UsageError("watch needs the id of a job.");
  return { name, ...target, jobId: job, json, ...watchOptions(values) };
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    // "Unknown option '--x'. To specify a positional argument …": the first sentence says it.
    const [sentence] = (error as Error).message.split(". ");
    throw new UsageError(`${sentence?.replace(/\.$/, "")}.`);
  }
}

type Values = ReturnType<typeof parse>["values"];

function watchOptions({ transport, after }: Values) {
  if (after !== undefined && !/^[a-z0-9]{12}\.\d+$/.test(after)) {
    throw new UsageError(`--after is a cursor like k3x9q0a7mw2c.18, not ${after}.`);
  }
  return {
    ...(transport !== undefined && { transport: oneOf(transports, "--transport", transport) }),
    ...(after !== undefined && { after }),
  };
}

function listOptions({ status, label, limit }: Values) {
  if (label !== undefined && !/^[^:]+:/.test(label)) {
    throw new UsageError(`--label is key:value, not ${label}.`);
  }
  if (limit !== undefined && !/^[1-9]\d{0,8}$/.test(limit)) {
    throw new UsageError(`--limit is a whole number from 1, not ${limit}.`);
  }
  return {
    ...(status !== undefined && { status: oneOf(STATUSES, "--status", status) }),
    ...(label !== undefined && { label }),
    limit: Number(limit ?? 50),
  };
}

function oneOf<T extends string>(allowed: readonly T[], option: string, given: string): T {
  const found = allowed.find((value) => value === given);
  if (found === undefined) {
    throw new UsageError(`${option} is one of ${allowed.join(", ")}, not ${given}.`);
  }
  return found;
}
