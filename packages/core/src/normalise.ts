import { toMonitorError, WorkflowMonitorError } from "./errors.js";
import type {
  Json,
  NormalJobEvent,
  NormalPlanEvent,
  NormalPlannedStage,
  NormalStageEvent,
  PublicError,
  WorkflowEvent,
} from "./events.js";
import { parseStatus } from "./status.js";

/**
 * The border. What a host emits is `unknown` until it has passed here: each known field is read
 * once, checked and copied; nothing that the host changes later reaches the log (SPEC R17).
 * Throws `refused` for what cannot be used; what can be used in part is shortened and noted.
 */

export interface NormaliseContext {
  /** Milliseconds since 1970: the stamp of events that bring none. */
  now: number;
  /** Shapes what viewers learn of an error. SPEC R12. */
  redactError?:
    | ((error: unknown, at: { jobId: string; stage?: string }) => PublicError)
    | undefined;
  /** Most stages a plan may name. SPEC R13. */
  maxStages: number;
}

export interface Normalised {
  jobId: string;
  event: WorkflowEvent;
  /** The event as JSON, made once: these are the bytes that every viewer gets. */
  text: string;
  /** What was shortened, dropped or moved, as sentences. */
  notices: string[];
}

const MAX_AHEAD_MS = 5 * 60_000;
const MAX_JOB_ID_BYTES = 100; // Fastify's maxParamLength
const MAX_ID = 128;
const MAX_NAME = 256;
const MAX_TEXT = 512; // message, reason
const MAX_ERROR_BYTES = 2_048;
const MAX_JOB_METADATA = 16 * 1024;
const MAX_STAGE_METADATA = 4 * 1024;
const MAX_LABELS = 32;
const MAX_LABEL_KEY = 64;
const MAX_LABEL_VALUE = 256;
const MAX_WEIGHT = 1e9;
const MAX_EVENT_BYTES = 1024 * 1024;

const HOSTILE = new Set(["__proto__", "constructor", "prototype"]);
const HOSTILE_JSON_KEY = /"(?:__proto__|constructor|prototype)":/;
/** And halves of surrogate pairs: they have no UTF-8, so that stores and lines would change them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\p{Surrogate}]/u;

type Fields = Record<string, unknown>;

const refuse = (message: string): WorkflowMonitorError =>
  new WorkflowMonitorError("refused", message);

export function normalise(type: unknown, input: unknown, context: NormaliseContext): Normalised {
  const fields = fieldsOf(input, "An event");
  const jobId = readJobId(fields.jobId);
  const notices: string[] = [];
  const read = new Reader(jobId, context, notices);
  let event: WorkflowEvent;
  let text: string;
  try {
    if (type === "stage") event = stageEvent(fields, read);
    else if (type === "job") event = jobEvent(fields, read);
    else if (type === "plan") event = planEvent(fields, read, context.maxStages);
    else throw refuse("An event's type must be plan, job or stage.");
    text = JSON.stringify(event);
    if (Buffer.byteLength(text) > MAX_EVENT_BYTES) {
      throw refuse("An event must stay under 1 MiB of JSON.");
    }
  } catch (thrown) {
    const { message } = toMonitorError(thrown, "refused", "The event could not be read.");
    throw new WorkflowMonitorError("refused", message, { jobId, cause: thrown });
  }
  return { jobId, event: Object.freeze(event), text, notices };
}

function stageEvent(fields: Fields, read: Reader): NormalStageEvent {
  const stage = readId("stage", fields.stage);
  const event: NormalStageEvent = {
    type: "stage",
    timestamp: read.timestamp(fields.timestamp),
    stage,
  };
  read.status(event, fields.status);
  read.whole(event, "attempt", fields.attempt);
  read.base(event, fields);
  read.telling(event, fields, stage);
  read.metadata(event, fields.metadata, MAX_STAGE_METADATA);
  return event;
}

function jobEvent(fields: Fields, read: Reader): NormalJobEvent {
  const event: NormalJobEvent = { type: "job", timestamp: read.timestamp(fields.timestamp) };
  read.status(event, fields.status);
  read.base(event, fields);
  read.telling(event, fields);
  read.labels(event, fields.labels);
  read.metadata(event, fields.metadata, MAX_JOB_METADATA);
  return event;
}

function planEvent(fields: Fields, read: Reader, maxStages: number): NormalPlanEvent {
  const { stages } = fields;
  if (!Array.isArray(stages)) throw refuse("A plan's stages must be an array.");
  if (stages.length > maxStages) throw refuse(`A plan may name at most ${maxStages} stages.`);
  const event: NormalPlanEvent = {
    type: "plan",
    timestamp: read.timestamp(fields.timestamp),
    // Not `map`, which leaves holes as they are.
    stages: Object.freeze(
      Array.from(stages, (stage: unknown) => read.plannedStage(stage)),
    ) as NormalPlannedStage[],
  };
  if (new Set(event.stages.map(({ stage }) => stage)).size !== stages.length) {
    throw refuse("A plan must name each stage once.");
  }
  read.base(event, fields);
  read.text(event, "name", fields.name, MAX_NAME);
  read.labels(event, fields.labels);
  read.metadata(event, fields.metadata, MAX_JOB_METADATA);
  return event;
}

/** Reads optional fields into an event; keeps what they have in common: where, when, what was shortened. */
class Reader {
  readonly #jobId: string;
  readonly #context: NormaliseContext;
  readonly #notices: string[];

  constructor(jobId: string, context: NormaliseContext, notices: string[]) {
    this.#jobId = jobId;
    this.#context = context;
    this.#notices = notices;
  }

  timestamp(value: unknown): string {
    const { now } = this.#context;
    if (value === undefined || value === null) return new Date(now).toISOString();
    const known = typeof value === "string" || typeof value === "number" || value instanceof Date;
    const at = known ? new Date(value).getTime() : Number.NaN;
    // Years of four digits only: their ISO texts sort as the times do.
    if (!(at >= -62_167_219_200_000 && at <= 253_402_300_799_999)) {
      throw refuse("timestamp must be an ISO 8601 text, a Date or milliseconds since 1970.");
    }
    if (at <= now + MAX_AHEAD_MS) return new Date(at).toISOString();
    this.#notices.push("timestamp was more than 5 minutes ahead and became the time of arrival.");
    return new Date(now).toISOString();
  }

  base(event: WorkflowEvent, fields: Fields): void {
    if (given(fields.id)) event.id = readId("id", fields.id);
    this.whole(event, "run", fields.run);
  }

  status(event: NormalJobEvent | NormalStageEvent, value: unknown): void {
    if (!given(value)) return;
    const status = parseStatus(value);
    if (!status) throw refuse(`status must be a status, not ${show(value)}.`);
    event.status = status;
  }

  whole<K extends "run" | "attempt">(event: { [key in K]?: number }, key: K, value: unknown): void {
    if (!given(value)) return;
    if (!Number.isSafeInteger(value) || (value as number) < 1) {
      throw refuse(`${key} must be a whole number from 1, not ${show(value)}.`);
    }
    event[key] = value as number;
  }

  /** What jobs and stages tell alike. */
  telling(event: NormalJobEvent | NormalStageEvent, fields: Fields, stage?: string): void {
    this.text(event, "reason", fields.reason, MAX_TEXT);
    if (fields.progress !== undefined) event.progress = readProgress(fields.progress);
    this.text(event, "message", fields.message, MAX_TEXT);
    if (fields.error !== undefined) event.error = this.#error(fields.error, stage);
  }

  text<K extends string>(
    event: { [key in K]?: string | null },
    key: K,
    value: unknown,
    max: number,
  ): void {
    if (value === undefined) return;
    if (value !== null && typeof value !== "string") throw refuse(`${key} must be a text or null.`);
    event[key] = value === null ? null : this.#clip(value, max, key);
  }

  labels(event: { labels?: Record<string, string> | null }, value: unknown): void {
    if (value === undefined) return;
    if (value === null) {
      event.labels = null;
      return;
    }
    if (typeof value !== "object" || Array.isArray(value)) {
      throw refuse("labels must be an object of texts or null.");
    }
    const entries = Object.entries(value);
    for (const [key, label] of entries) {
      if (HOSTILE.has(key) || CONTROL.test(key))
        throw refuse(`labels must not have the key ${show(key)}.`);
      if (typeof label !== "string") throw refuse(`labels.${key} must be a text.`);
    }
    const fits =
      entries.length <= MAX_LABELS &&
      entries.every(
        ([key, label]) => key.length <= MAX_LABEL_KEY && label.length <= MAX_LABEL_VALUE,
      );
    if (fits) event.labels = Object.freeze(Object.fromEntries(entries)) as Record<string, string>;
    else {
      this.#notices.push(
        `labels were dropped: at most ${MAX_LABELS}, keys of ${MAX_LABEL_KEY} and values of ${MAX_LABEL_VALUE} characters.`,
      );
    }
  }

  metadata(event: { metadata?: Json }, value: unknown, max: number): void {
    if (value === undefined) return;
    let text: string | undefined;
    try {
      text = JSON.stringify(value);
    } catch {
      // Circular, a BigInt, a toJSON that throws: dropped below.
    }
    if (text === undefined || Buffer.byteLength(text) > max) {
      this.#notices.push(`metadata was dropped: it must be JSON of at most ${max} bytes.`);
      return;
    }
    if (HOSTILE_JSON_KEY.test(text)) throw refuse("metadata must not have a key like __proto__.");
    event.metadata = deepFreeze(JSON.parse(text) as Json);
  }

  plannedStage(value: unknown): NormalPlannedStage {
    const fields = fieldsOf(value, "A planned stage");
    const stage = readId("stage", fields.stage);
    const { weight = 1, dependsOn = [], allowFailure = false } = fields;
    if (typeof weight !== "number" || !(weight >= 0 && weight <= MAX_WEIGHT)) {
      throw refuse(`weight must be a number from 0 to ${MAX_WEIGHT}, not ${show(weight)}.`);
    }
    if (typeof allowFailure !== "boolean") throw refuse("allowFailure must be true or false.");
    if (!Array.isArray(dependsOn)) throw refuse("dependsOn must be an array of stages.");
    const maxAttempts: { attempt?: number } = {};
    this.whole(maxAttempts, "attempt", fields.maxAttempts);
    const name: { name?: string | null } = {};
    this.text(name, "name", fields.name, MAX_NAME);
    return Object.freeze({
      stage,
      name: name.name ?? stage,
      weight,
      dependsOn: Object.freeze(
        Array.from(dependsOn, (other: unknown) => readId("dependsOn", other)),
      ) as string[],
      allowFailure,
      maxAttempts: maxAttempts.attempt ?? null,
    });
  }

  #error(value: unknown, stage: string | undefined): PublicError | null {
    if (value === null) return null;
    const { redactError } = this.#context;
    let plain: PublicError;
    if (redactError) {
      try {
        const at = stage === undefined ? { jobId: this.#jobId } : { jobId: this.#jobId, stage };
        plain = publicError(redactError(value, at));
      } catch {
        // What it was to hide stays hidden.
        this.#notices.push("redactError threw: the error was replaced by a general one.");
        plain = { code: "ERROR", message: "The error cannot be shown." };
      }
    } else {
      plain = publicError(value);
    }
    const code = this.#clip(plain.code, MAX_ID, "error.code");
    const room = MAX_ERROR_BYTES - Buffer.byteLength(code);
    let message = plain.message;
    if (Buffer.byteLength(message) > room) {
      message = Buffer.from(message)
        .subarray(0, room)
        .toString()
        .replace(/\ufffd+$/, "");
      this.#notices.push(`error.message was shortened to ${room} bytes.`);
    }
    return Object.freeze({ code, message });
  }

  #clip(text: string, max: number, what: string): string {
    if (text.length <= max) return text;
    this.#notices.push(`${what} was shortened to ${max} characters.`);
    // Half a surrogate pair is no character.
    return text.slice(0, max).replace(/[\ud800-\udbff]$/, "");
  }
}

/** The fields of what must be an object, without keys that reach for prototypes. SPEC R14. */
function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null) throw refuse(`${what} must be an object.`);
  for (const key of HOSTILE) {
    if (Object.hasOwn(value, key)) throw refuse(`${what} must not have a field ${key}.`);
  }
  return value as Fields;
}

const given = (value: unknown): boolean => value !== undefined && value !== null;

function readJobId(value: unknown): string {
  if (typeof value !== "string" || value === "")
    throw refuse("jobId must be a text that is not empty.");
  if (!isJobId(value)) {
    throw refuse(
      `jobId must be at most ${MAX_JOB_ID_BYTES} bytes percent-encoded, without control characters, and not . or .. or a name like __proto__.`,
    );
  }
  return value;
}

/** Whether a text can be a job id at all, so that a lookup need not ask the store. SPEC R13, R14. */
export function isJobId(text: string): boolean {
  if (text === "" || text === "." || text === ".." || text.length > MAX_JOB_ID_BYTES) return false;
  if (HOSTILE.has(text) || CONTROL.test(text)) return false;
  try {
    return encodeURIComponent(text).length <= MAX_JOB_ID_BYTES;
  } catch {
    return false; // a lone surrogate
  }
}

function readId(field: string, value: unknown): string {
  if (typeof value !== "string" || value === "" || value.length > MAX_ID) {
    throw refuse(`${field} must be a text of 1 to ${MAX_ID} characters.`);
  }
  if (HOSTILE.has(value) || CONTROL.test(value)) {
    throw refuse(`${field} must not have control characters or be a name like __proto__.`);
  }
  return value;
}

function readProgress(value: unknown): number | null {
  if (value === null) return null;
  if (typeof value === "number" && Number.isFinite(value)) return wholePercent(value);
  if (typeof value === "object") {
    const { current, total } = value as Fields;
    if (typeof current === "number" && Number.isFinite(current)) {
      if (!given(total)) return null;
      if (typeof total === "number" && Number.isFinite(total)) {
        return total > 0 ? wholePercent((current * 100) / total) : null;
      }
    }
  }
  throw refuse("progress must be a finite number, { current, total? } of finite numbers, or null.");
}

const wholePercent = (percent: number): number => Math.floor(Math.min(100, Math.max(0, percent)));

function publicError(value: unknown): PublicError {
  if (typeof value === "string") return { code: "ERROR", message: value };
  if (typeof value !== "object" || value === null) return { code: "ERROR", message: show(value) };
  const { code, name, message } = value as Fields;
  return {
    code: [code, name, "ERROR"].find((text) => typeof text === "string" && text !== "") as string,
    message: typeof message === "string" ? message : "",
  };
}

/** A value for an error message: short, and safe whatever it is. */
function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  return typeof value === "object" ? "an object" : String(value).slice(0, 40);
}

function deepFreeze<T extends Json>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}
