import type {
  Announced,
  Batch,
  Cursor,
  JobState,
  JobSummary,
  Revision,
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

/** The fields that a batch changes, with their values, in turn: all of them, or what its patches name. */
export function changedFields({ job, revisions }: Batch, whole: boolean): string[] {
  const fields: string[] = [];
  const keys = whole ? Object.keys(job) : unionOf(revisions.map(({ patch }) => Object.keys(patch)));
  for (const key of keys) {
    const value = job[key as keyof JobState];
    if (key !== "stages" && value !== undefined) fields.push(`j:${key}`, JSON.stringify(value));
  }
  const ordered = whole || revisions.some(({ patch }) => patch.stageOrder !== undefined);
  const changed = new Set(revisions.flatMap(({ patch }) => patch.stages ?? []).map(nameOf));
  for (const stage of job.stages) {
    if (whole || changed.has(stage.stage)) fields.push(`s:${stage.stage}`, JSON.stringify(stage));
  }
  if (ordered) fields.push("stages", JSON.stringify(job.stages.map(nameOf)));
  if (whole) fields.push("keys", JSON.stringify(Object.keys(job)));
  return fields;
}

const nameOf = ({ stage }: { stage: string }): string => stage;
const unionOf = (lists: string[][]): Set<string> => new Set(lists.flat());

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

/** One text for many: JSON has no line breaks. */
export const lines = (texts: readonly string[]): string => texts.join("\n");

export const eventsOf = ({ revisions }: Batch): string =>
  lines(revisions.map(({ event }) => event));

export const patchesOf = ({ revisions }: Batch): string =>
  lines(revisions.map(({ patch }) => JSON.stringify(patch)));

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
