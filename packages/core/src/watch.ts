import { toMonitorError } from "./errors.js";
import type { Codec } from "./frames.js";
import { CloseCode, type Frame } from "./protocol.js";
import { type Cursor, parseCursor } from "./revision.js";
import type { RoomManager } from "./rooms.js";
import type { EndReason, Member, Seat } from "./seat.js";

export interface WatchOptions {
  /** Where to go on; as a cursor or as its text. Default: from now. */
  after?: Cursor | string;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

const GONE: EndReason = { code: CloseCode.goingAway, reason: "the watch ended" };
const EMPTY = Buffer.alloc(0);
const NEWLINE = Buffer.from("\n");

/** Frames as lines of JSON. */
const lines: Codec = { wrap: () => ({ head: EMPTY, tail: NEWLINE }) };

/**
 * A viewer in the host's own process: it sits in the room like any other, and gets the same bytes.
 * A consumer that falls behind gets a `snapshot` frame instead of what it missed.
 */
export function watch(
  rooms: RoomManager,
  jobId: string,
  { after, signal }: WatchOptions,
  inFlightBytes: number,
): AsyncIterableIterator<Frame> {
  // A generator cannot be stopped while it waits: stopping is a signal, too.
  const stop = new AbortController();
  const stopped = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const cursor = typeof after === "string" ? parseCursor(after) : after;
  const frames = follow(rooms, jobId, cursor ?? null, stopped, inFlightBytes);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () => frames.next(),
    return() {
      stop.abort();
      return frames.return();
    },
  };
}

async function* follow(
  rooms: RoomManager,
  jobId: string,
  after: Cursor | null,
  signal: AbortSignal,
  inFlightBytes: number,
): AsyncGenerator<Frame, void, undefined> {
  const queue: { frames: Frame[]; bytes: number }[] = [];
  let queuedBytes = 0;
  let failure: Error | undefined;
  let ended = false;
  let wake = () => {};

  const member: Member = {
    codec: lines,
    mode: "full",
    get writable() {
      return queuedBytes < inFlightBytes;
    },
    write(parts) {
      const text = Buffer.concat(parts).toString();
      const frames = text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Frame);
      queue.push({ frames, bytes: text.length });
      queuedBytes += text.length;
      wake();
    },
    end() {
      ended = true;
      wake();
    },
  };
  if (signal.aborted) return;
  let abort = () => {};
  const aborted = new Promise<undefined>((resolve) => {
    abort = () => {
      resolve(undefined);
      wake();
    };
  });
  signal.addEventListener("abort", abort);
  let seat: Seat | undefined;
  try {
    const joining = rooms.join(jobId, member, after, "watch");
    seat = await Promise.race([joining, aborted]);
    if (!seat)
      return void joining.then(
        (late) => late.leave(GONE),
        () => {},
      );
    while (!signal.aborted) {
      const next = queue.shift();
      if (next) {
        queuedBytes -= next.bytes;
        for (const frame of next.frames) {
          if (signal.aborted) return;
          yield frame;
        }
        if (queue.length === 0) seat.resume();
      } else if (ended) break;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } catch (thrown) {
    failure = toMonitorError(thrown, "internal", "The watch failed.");
  } finally {
    signal.removeEventListener("abort", abort);
    seat?.leave(GONE);
  }
  if (failure) throw failure;
}
