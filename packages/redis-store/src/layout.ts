import type { Cursor, JobPatch, JobState, JobSummary, Revision } from "@org/workflow-monitor";
import { parseCursor } from "@org/workflow-monitor";

/**
 * How a job lies in Redis, under one hash tag, so that a call needs one slot:
 *
 *     <prefix>{<job>}:head   hash: where the log stands, and the state there
 *     <prefix>{<job>}:log    stream: an entry a batch, `<revision after it>-0`
 *     <prefix>{<job>}        channel: an announcement a batch, see announcement.ts
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

/** The fields that a patch sets, and their values, in turn. */
function fieldsOf(patch: JobPatch): string[] {
  const { stages, stageOrder, ...rest } = patch;
  const fields: string[] = [];
  for (const [key, value] of Object.entries(rest)) fields.push(`j:${key}`, JSON.stringify(value));
  for (const stage of stages ?? []) fields.push(`s:${stage.stage}`, JSON.stringify(stage));
  if (stageOrder) fields.push("stages", JSON.stringify(stageOrder));
  return fields;
}

/** The patch that sets these fields, as JSON; `empty`: it has a list of stages, and no stage in it. */
export function patchOf(fields: readonly string[], empty = false): string {
  const parts: string[] = [];
  const stages: string[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    const [field, value] = [fields[at] as string, fields[at + 1] as string];
    if (field.startsWith("s:")) stages.push(value);
    else if (field.startsWith("j:")) parts.push(`"${field.slice(2)}":${value}`);
    else parts.push(`"stages":[${stages.splice(0)}],"stageOrder":${value}`);
  }
  if (stages.length > 0 || (empty && fields.at(-2) !== "stages"))
    parts.push(`"stages":[${stages}]`);
  return `{${parts}}`;
}

/** What a batch changes: the texts of its patches, and the fields that they leave. Every value is made text once. */
export function changes(revisions: readonly Revision[]): { patches: string; fields: string[] } {
  const all = revisions.map(({ patch }) => fieldsOf(patch));
  // Of one revision they say the same: the script announces its fields.
  if (all.length === 1 && !isEmpty(revisions[0]?.patch.stages))
    return { patches: "", fields: all[0] as string[] };
  const last = new Map<string, string>();
  for (const fields of all)
    for (let at = 0; at < fields.length; at += 2)
      last.set(fields[at] as string, fields[at + 1] as string);
  const texts = all.map((fields, at) => patchOf(fields, isEmpty(revisions[at]?.patch.stages)));
  return { patches: texts.join("\n"), fields: [...last].flat() };
}

/** The texts of the patches, where the fields do not say them. */
export const patchesOf = (revisions: readonly Revision[]): string =>
  revisions.map(({ patch }) => patchOf(fieldsOf(patch), isEmpty(patch.stages))).join("\n");

const isEmpty = (list: unknown[] | undefined): boolean => list?.length === 0;

/** The job of a head, from its fields and their values in turn. Throws when something is missing or is no JSON. */
export function jobOf(fields: readonly string[]): JobState {
  const values = valuesOf(fields);
  const stages = () =>
    (parsed(values, "stages") as string[]).map((name) => parsed(values, `s:${name}`));
  const entry = (key: string) => [key, key === "stages" ? stages() : parsed(values, `j:${key}`)];
  return Object.fromEntries((parsed(values, "keys") as string[]).map(entry));
}

/** The same without its stages, with its place in the log. Throws likewise. */
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

function parsed(values: Map<string, string>, field: string): unknown {
  const text = values.get(field);
  if (text === undefined) throw new Error(`the field ${field} is missing`);
  return JSON.parse(text);
}

/** JSON has no line breaks. */
export const eventsOf = (revisions: readonly Revision[]): string =>
  revisions.map(({ event }) => event).join("\n");

export function cursorOf(text: string | undefined): Cursor {
  const cursor = parseCursor(text);
  if (!cursor) throw new Error(`Redis has ${JSON.stringify(text)} where a cursor should be.`);
  return cursor;
}
