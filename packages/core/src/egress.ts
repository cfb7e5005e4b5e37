import type { AuthorizeRequest, Gate } from "./authorize.js";
import type { Bodies, JobBody } from "./bodies.js";
import { unknownJob, WorkflowMonitorError } from "./errors.js";
import { type Codec, encodeHeartbeat, type FrameOptions } from "./frames.js";
import type { Heartbeats } from "./heartbeats.js";
import type { Clock, Logger } from "./host.js";
import type { Answering, InFlight } from "./in-flight.js";
import type { Limits } from "./limits.js";
import { createListEncoder } from "./list-encoder.js";
import type { Listing, MaySee } from "./listing.js";
import { Outbox, type OutboxOwner, type Sink } from "./outbox.js";
import type { Cursor } from "./revision.js";
import type { RoomManager } from "./rooms.js";
import type { Member, Seat } from "./seat.js";
import type { JobState } from "./snapshot.js";
import type { JobQuery, JobRecord, JobStore } from "./store.js";
import type { StoreFaults } from "./store-faults.js";
import { type Turns, WRITE_BYTES } from "./turns.js";

/** A request for one job. */
export type WatchRequest = AuthorizeRequest & { jobId: string; action: "watch" };

/**
 * What adapters see of a monitor: they ask here, and are asked for nothing but `Member`. Every method
 * asks `authorize` first, and forbidden looks like unknown; all reject with a WorkflowMonitorError, whose answer is in `refusals`.
 */
export interface Egress {
  /** Seats a member in its job's room and sends it its first frame. `after` null: no cursor, or no valid one. */
  join(request: WatchRequest, member: Member, after: Cursor | null): Promise<Seat>;
  /**
   * At once when the hook and the store answer at once: it then throws what it would reject. While the
   * store is away, a room of this node answers, unless the poller's cursor, `after`, is not behind it.
   */
  read(request: WatchRequest, after?: Cursor): JobBody | Promise<JobBody>;
  /** The store is away: what is shown may be old. SPEC D12. */
  readonly stale: boolean;
  /** The validator of a snapshot frame with this cursor. */
  etag(cursor: Cursor): string;
  /**
   * A page, as JSON `{ jobs, next }`, of the jobs that the viewer may watch. With `present` a row is what `read`
   * shows of the job, and the page ends after 1 MiB of rows. SPEC D14, R16.
   *
   * @param isGone asked in each turn of the search, which ends with `closed` when the viewer has gone
   */
  list(request: AuthorizeRequest, query: JobQuery, isGone?: () => boolean): Promise<Buffer>;
  /** A heartbeat frame of now. */
  heartbeat(codec: Codec): Buffer;
  /** Calls each connection every `heartbeatMs`. */
  readonly heartbeats: Heartbeats;
  /** The way out of a connection. What does not leave it in time is given up. */
  outbox(sink: Sink, owner: OutboxOwner): Outbox;
  /** Says that an answer was handed to its response: it is given up when it does not leave in time. */
  answering(response: Answering, bytes: Uint8Array): void;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Readonly<Limits>;
}

export interface EgressOptions {
  store: JobStore;
  faults: StoreFaults;
  listing: Listing;
  rooms: RoomManager;
  frames: FrameOptions;
  bodies: Bodies;
  gate: Gate;
  clock: Clock;
  turns: Turns;
  logger: Logger;
  heartbeats: Heartbeats;
  inFlight: InFlight;
  limits: Limits;
}

export function createEgress(options: EgressOptions): Egress {
  const { store, faults, listing, rooms, frames, bodies, gate, clock, turns, logger } = options;
  const { heartbeats, inFlight, limits } = options;
  const encodeList = createListEncoder({
    frames,
    bodies,
    logger,
    turns,
    read: (jobId) => readFrom(store, faults, jobId),
  });
  /** Connections of one tick of the wheel share a frame. */
  let lastBeat: { codec: Codec; at: number; stale: boolean; bytes: Buffer } | undefined;

  function admittedHead(
    request: WatchRequest,
    after: Cursor | undefined,
  ): JobBody | Promise<JobBody> {
    const admitted = gate.admit(request);
    if (typeof admitted === "boolean") return head(request, after, admitted);
    return admitted.then((answer) => head(request, after, answer));
  }

  function head(
    { jobId }: WatchRequest,
    after: Cursor | undefined,
    admitted: boolean,
  ): JobBody | Promise<JobBody> {
    if (!admitted) throw unknownJob(jobId);
    const read = readFrom(store, faults, jobId);
    if ("job" in read) return body(read);
    return gate.wait(read).then(body, (error: WorkflowMonitorError) => {
      const shown = error.code === "unavailable" ? rooms.body(jobId, after) : undefined;
      if (!shown) throw error;
      return shown;
    });
  }

  function body({ job, cursor }: Head): JobBody {
    const encoded = bodies.of(job, cursor);
    turns.spend(encoded.bytes.length);
    return encoded;
  }

  return {
    heartbeats,
    clock,
    logger,
    limits,
    outbox: (sink, owner) => new Outbox(inFlight, sink, owner),
    answering(response, bytes) {
      // What is smaller fits into any socket, unless that is full already.
      if (bytes.length > limits.inFlightBytes || response.writableLength > 0)
        inFlight.follow(response, bytes);
    },
    heartbeat(codec) {
      const now = clock.now();
      const { stale } = rooms;
      if (lastBeat?.codec !== codec || lastBeat.at !== now || lastBeat.stale !== stale) {
        lastBeat = { codec, at: now, stale, bytes: encodeHeartbeat(codec, now, stale) };
      }
      return lastBeat.bytes;
    },

    async join(request, member, after) {
      const admitted = gate.admit(request);
      if (admitted !== true && !(await admitted)) throw unknownJob(request.jobId);
      return rooms.join(request.jobId, member, after, request.transport, request);
    },

    read(request, after) {
      if (!turns.over) return admittedHead(request, after);
      const bytes = bodies.lastSize(request.jobId) ?? WRITE_BYTES;
      return new Promise((resolve, reject) => {
        turns.later(bytes, () => {
          try {
            resolve(admittedHead(request, after));
          } catch (thrown) {
            reject(thrown as WorkflowMonitorError);
          }
        });
      });
    },

    get stale() {
      return rooms.stale;
    },

    etag: (cursor) => bodies.etag(cursor),

    async list(request, query, isGone = () => false) {
      if (!(await gate.admit(request)))
        throw new WorkflowMonitorError("unknown_job", "You may not list jobs.");
      const maySee: MaySee = ({ jobId }) => gate.admit({ ...request, action: "watch", jobId });
      let isAnswered = false;
      const isOver = () => isAnswered || isGone();
      try {
        return await gate.wait(encodeList(query, (part) => listing.page(part, maySee, isOver)));
      } finally {
        // A node that goes waits no longer: the search ends as well.
        isAnswered = true;
      }
    },
  };
}

interface Head {
  job: JobState;
  cursor: Cursor;
}

/**
 * The head of a job that may be read; at once when the store answers at once. Throws or rejects
 * `unknown_job`, `unavailable` or `damaged`.
 */
export function readFrom(
  store: JobStore,
  faults: StoreFaults,
  jobId: string,
): Head | Promise<Head> {
  let read: ReturnType<JobStore["read"]>;
  try {
    read = store.read(jobId);
  } catch (thrown) {
    throw faults.shown(thrown, jobId);
  }
  if (!read || "cursor" in read) return readable(jobId, read);
  return read.then(
    (record) => readable(jobId, record),
    (thrown: unknown) => {
      throw faults.shown(thrown, jobId);
    },
  );
}

function readable(jobId: string, record: JobRecord | undefined): Head {
  if (!record?.job || record.expired) throw unknownJob(jobId);
  return { job: record.job, cursor: record.cursor };
}
