import type { WorkflowMonitorError } from "./errors.js";
import type { ErrorFrame, FrameType, HeartbeatFrame } from "./protocol.js";
import { refusals } from "./refusals.js";
import { type Cursor, type JobPatch, printCursor } from "./revision.js";
import type { JobSnapshot, JobState, JobSummary } from "./snapshot.js";

/**
 * How a transport makes a message of a JSON text: a WebSocket header, SSE's field names. One object a
 * transport, shared by all of its members: those with the same codec and mode get the same bytes.
 */
export interface Codec {
  /** What goes before a JSON text of `bytes` bytes, and what goes after it. ASCII. */
  wrap(type: FrameType, cursor: string | null, bytes: number): { head: Buffer; tail?: Buffer };
}

/** What frames of one monitor have in common. */
export interface FrameOptions {
  heartbeatMs: number;
  /** SPEC R16. */
  present: ((job: JobSnapshot) => unknown) | undefined;
}

export const toSnapshot = (job: JobState, { epoch, revision }: Cursor): JobSnapshot => ({
  ...job,
  epoch,
  revision,
});

/** UTF-8 bytes outside Node's pool: a kept or unsent slice would pin 8 KiB of it. */
function toBytes(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  bytes.write(text);
  return bytes;
}

/** `job` as every transport carries it, as JSON. Throws what `present` throws. */
export function encodeJob(job: JobState, cursor: Cursor, { present }: FrameOptions): Buffer {
  const snapshot = toSnapshot(job, cursor);
  if (!present) return toBytes(JSON.stringify(snapshot));
  const text: string | undefined = JSON.stringify(present(snapshot));
  if (text === undefined) throw new TypeError("present must return a JSON value.");
  return toBytes(text);
}

/**
 * An event as viewers get it, as JSON. A shape of the job does not say what an event may tell, so with
 * `present` an event says only when something happened: it is the smallest event there is. SPEC R16.
 */
export function encodeEvent(event: string, { present }: FrameOptions): string {
  if (!present) return event;
  let timestamp: unknown;
  try {
    ({ timestamp } = JSON.parse(event) as { timestamp?: unknown });
  } catch {
    // The stored text is damaged: this event has no time.
  }
  return JSON.stringify({ type: "job", timestamp });
}

/** A frame before its transport's wrapping: its JSON text, in parts. */
export interface FrameText {
  cursor: string | null;
  parts: readonly (string | Buffer)[];
}

/** One revision's update. `change` is the job's JSON in mode full, else the patch. */
export function updateText(
  jobId: string,
  at: Cursor,
  event: string,
  change: Buffer | JobPatch,
): FrameText {
  const cursor = printCursor(at);
  const start = `{"type":"update","jobId":${JSON.stringify(jobId)},"cursor":"${cursor}","event":${event},`;
  if (Buffer.isBuffer(change)) return { cursor, parts: [`${start}"job":`, change, "}"] };
  const patch = JSON.stringify({ ...change, revision: at.revision });
  return { cursor, parts: [`${start}"patch":${patch}}`] };
}

/** Frames of one type, back to back in one buffer: one write a viewer. */
export function encode(codec: Codec, type: FrameType, frames: readonly FrameText[]): Buffer {
  const pieces: (string | Buffer)[] = [];
  let size = 0;
  for (const { cursor, parts } of frames) {
    const length = parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0);
    const { head, tail } = codec.wrap(type, cursor, length);
    pieces.push(head, ...parts);
    size += head.length + length;
    if (!tail) continue;
    pieces.push(tail);
    size += tail.length;
  }
  const bytes = Buffer.allocUnsafeSlow(size);
  let at = 0;
  for (const piece of pieces) {
    at += typeof piece === "string" ? bytes.write(piece, at) : piece.copy(bytes, at);
  }
  return bytes;
}

/** What a snapshot frame is made of. */
export interface SnapshotParts {
  jobId: string;
  cursor: Cursor;
  resumed: boolean;
  behind: boolean;
  done: boolean;
  /** From the log's text. */
  events: readonly Buffer[];
  /** The head's text. */
  job: Buffer;
}

const MIDDLE = Buffer.from(`],"job":`);
const CLOSE = Buffer.from("}");
const COMMA = Buffer.from(",");
/** Below this, one copy is cheaper than several parts. */
const COPY_BYTES = 16 * 1024;

/** A snapshot frame as parts: the envelope is its own, events and job are shared with everybody. */
export function encodeSnapshot(
  codec: Codec,
  parts: SnapshotParts,
  options: FrameOptions,
): Buffer[] {
  const { jobId, resumed, behind, done, events, job } = parts;
  const cursor = printCursor(parts.cursor);
  const envelope = toBytes(
    `{"type":"snapshot","jobId":${JSON.stringify(jobId)},"cursor":"${cursor}","resumed":${resumed}${
      behind ? ',"behind":true' : ""
    },"done":${done},"heartbeatMs":${options.heartbeatMs},"events":[`,
  );
  const text = [envelope, ...events, MIDDLE, job, CLOSE];
  const length = text.reduce((sum, part) => sum + part.length, 0);
  const { head, tail } = codec.wrap("snapshot", cursor, length);
  const frame = tail ? [head, ...text, tail] : [head, ...text];
  return length < COPY_BYTES ? [join(frame)] : frame;
}

function join(parts: readonly Buffer[]): Buffer {
  const bytes = Buffer.allocUnsafeSlow(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) at += part.copy(bytes, at);
  return bytes;
}

/** A page of the list: the JSON of its rows, and where the next page begins. */
export function encodePage(rows: readonly Buffer[], next: string | null): Buffer {
  const parts = rows.flatMap((row, at) => (at === 0 ? [row] : [COMMA, row]));
  return join([toBytes('{"jobs":['), ...parts, toBytes(`],"next":${JSON.stringify(next)}}`)]);
}

/** A row of the list that no `present` shapes, as JSON. */
export const encodeSummary = (job: JobSummary): Buffer => toBytes(JSON.stringify(job));

export function encodeEnd(codec: Codec, job: JobState, at: Cursor): Buffer {
  const cursor = printCursor(at);
  const text = JSON.stringify({ type: "end", jobId: job.jobId, cursor, status: job.status });
  return encode(codec, "end", [{ cursor, parts: [text] }]);
}

export function encodeHeartbeat(codec: Codec, now: number, stale: boolean): Buffer {
  const timestamp = new Date(now).toISOString();
  const frame: HeartbeatFrame = { type: "heartbeat", timestamp, ...(stale && { stale }) };
  return encode(codec, "heartbeat", [{ cursor: null, parts: [JSON.stringify(frame)] }]);
}

export function encodeError(codec: Codec, error: WorkflowMonitorError): Buffer {
  const frame: ErrorFrame = {
    type: "error",
    ...(error.jobId !== undefined && { jobId: error.jobId }),
    code: error.code,
    message: error.message,
    retryable: refusals[error.code].retryable,
    ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
  };
  return encode(codec, "error", [{ cursor: null, parts: [JSON.stringify(frame)] }]);
}
