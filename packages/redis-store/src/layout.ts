import type {
  Announced,
  Cursor,
  JobPatch,
  JobState,
  JobSummary,
  Revision,
  StageSnapshot,
} from "@org/workflow-monitor";
import { parseCursor } from "@org/workflow-monitor";

/**
 * How a job lies in Redis, under one hash tag, so that a call needs one slot:
 *
 *     <prefix>{<job>}:head   hash: where the log stands, and the state there
 *     <prefix>{<job>}:log    stream: an entry a batch, `<revision after it>-0`
 *     <prefix>{<job>}        channel: an announcement a batch
 *
 * The head has a field for each key of the job (`j:status`) and for each stage (`s:build`), each of
 * them JSON, so that an append writes what changed and not the job. `keys` and `stages` are their
 * order: the same bytes come out wherever they are put together.
 */
export interface JobKeys {
  head: string;
  log: string;
  channel: string;
}

export function keysOf(prefix: string, jobId: string): JobKeys {
  // Encoded, since a brace would end the hash tag.
  const tag = `${prefix}{${encodeURIComponent(jobId)}}`;
  return { head: `${tag}:head`, log: `${tag}:log`, channel: tag };
}

/** All fields of a job's head and their values, in turn. */
export function allFields(job: JobState): string[] {
  const keys = Object.keys(job);
  const fields = ["keys", JSON.stringify(keys)];
  for (const key of keys) {
    if (key !== "stages") fields.push(`j:${key}`, JSON.stringify(job[key as keyof JobState]));
  }
  for (const stage of job.stages) fields.push(`s:${stage.stage}`, JSON.stringify(stage));
  fields.push("stages", JSON.stringify(job.stages.map(({ stage }) => stage)));
  return fields;
}

/** What a batch changes: the texts of its patches, and the fields that they leave. Every value is made text once. */
export function changes(revisions: readonly Revision[]): { patches: string; fields: string[] } {
  const last = new Map<string, string>();
  const patches = revisions.map(({ patch }) => {
    let text = "";
    for (const key of Object.keys(patch)) {
      const value = patch[key as keyof JobPatch];
      if (value === undefined) continue;
      let json: string;
      if (key === "stages") {
        json = `[${(value as StageSnapshot[]).map((stage) => {
          const one = JSON.stringify(stage);
          last.set(`s:${stage.stage}`, one);
          return one;
        })}]`;
      } else {
        json = JSON.stringify(value);
        last.set(key === "stageOrder" ? "stages" : `j:${key}`, json);
      }
      text += `${text === "" ? "" : ","}"${key}":${json}`;
    }
    return `{${text}}`;
  });
  const fields: string[] = [];
  for (const [field, value] of last) fields.push(field, value);
  return { patches: patches.join("\n"), fields };
}

/** The job of a head, from its fields and their values in turn. */
export function jobOf(fields: readonly string[]): JobState {
  const values = valuesOf(fields);
  const stages = () =>
    (parsed(values, "stages") as string[]).map((name) => parsed(values, `s:${name}`));
  const entry = (key: string) => [key, key === "stages" ? stages() : parsed(values, `j:${key}`)];
  return Object.fromEntries((parsed(values, "keys") as string[]).map(entry));
}

/** The same without its stages, with its place in the log. */
export function summaryOf(fields: readonly string[], cursor: Cursor): JobSummary {
  const values = valuesOf(fields);
  const keys = (parsed(values, "keys") as string[]).filter((key) => key !== "stages");
  const rest = Object.fromEntries(keys.map((key) => [key, parsed(values, `j:${key}`)]));
  return { ...(rest as Omit<JobState, "stages">), ...cursor };
}

function valuesOf(fields: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (let at = 0; at < fields.length; at += 2)
    values.set(fields[at] as string, fields[at + 1] as string);
  return values;
}

const parsed = (values: Map<string, string>, field: string): unknown =>
  JSON.parse(values.get(field) ?? "null");

/** JSON has no line breaks. */
export const eventsOf = (revisions: readonly Revision[]): string =>
  revisions.map(({ event }) => event).join("\n");

/** What the append script publishes: `<cursor> <batch id>`, the events, the patches, a line each. */
export function announced(message: string): Announced {
  const [head = "", ...texts] = message.split("\n");
  const [at, id = ""] = head.split(" ");
  const count = texts.length / 2;
  const revisions: Revision[] = [];
  for (let n = 0; n < count; n++) {
    revisions.push({ event: texts[n] as string, patch: JSON.parse(texts[count + n] as string) });
  }
  return { cursor: cursorOf(at), id, revisions };
}

export function cursorOf(text: string | undefined): Cursor {
  const cursor = parseCursor(text);
  if (!cursor) throw new Error(`Redis has ${JSON.stringify(text)} where a cursor should be.`);
  return cursor;
}
