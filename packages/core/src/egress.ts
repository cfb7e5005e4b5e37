import type { AuthorizeRequest, Gate } from "./authorize.js";
import type { Bodies, JobBody } from "./bodies.js";
import { toMonitorError, unknownJob, WorkflowMonitorError } from "./errors.js";
import { type Codec, encodeHeartbeat } from "./frames.js";
import type { Heartbeats } from "./heartbeats.js";
import type { Clock, Logger } from "./host.js";
import type { Answering, InFlight } from "./in-flight.js";
import type { Limits } from "./limits.js";
import { Outbox, type OutboxOwner, type Sink } from "./outbox.js";
import type { Cursor } from "./revision.js";
import type { RoomManager } from "./rooms.js";
import type { Member, Seat } from "./seat.js";
import type { JobState } from "./snapshot.js";
import type { JobPage, JobQuery, JobRecord, JobStore } from "./store.js";

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
  /** Rows that the viewer may not watch are left out, so pages may be short. */
  list(request: AuthorizeRequest, query: JobQuery): Promise<JobPage>;
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
  rooms: RoomManager;
  bodies: Bodies;
  gate: Gate;
  clock: Clock;
  logger: Logger;
  heartbeats: Heartbeats;
  inFlight: InFlight;
  limits: Limits;
}

export function createEgress(options: EgressOptions): Egress {
  const { store, rooms, bodies, gate, clock, logger, heartbeats, inFlight, limits } = options;
  /** Connections of one tick of the wheel share a frame. */
  let lastBeat: { codec: Codec; at: number; stale: boolean; bytes: Buffer } | undefined;

  function head(
    { jobId }: WatchRequest,
    after: Cursor | undefined,
    admitted: boolean,
  ): JobBody | Promise<JobBody> {
    if (!admitted) throw unknownJob(jobId);
    const read = readFrom(store, jobId);
    if ("job" in read) return body(read);
    return gate.wait(read).then(body, (error: WorkflowMonitorError) => {
      const shown = error.code === "unavailable" ? rooms.body(jobId, after) : undefined;
      if (!shown) throw error;
      return shown;
    });
  }

  const body = ({ job, cursor }: Head): JobBody => bodies.of(job, cursor);

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
      const admitted = gate.admit(request);
      if (typeof admitted === "boolean") return head(request, after, admitted);
      return admitted.then((answer) => head(request, after, answer));
    },

    get stale() {
      return rooms.stale;
    },

    etag: (cursor) => bodies.etag(cursor),

    async list(request, query) {
      if (!(await gate.admit(request)))
        throw new WorkflowMonitorError("unknown_job", "You may not list jobs.");
      const page = await gate.wait(listFrom(store, query));
      const may = async (jobId: string) => gate.admit({ ...request, action: "watch", jobId });
      const allowed = await Promise.all(page.jobs.map(({ jobId }) => may(jobId)));
      return { jobs: page.jobs.filter((_, at) => allowed[at]), next: page.next };
    },
  };
}

interface Head {
  job: JobState;
  cursor: Cursor;
}

/**
 * The head of a job that may be read; at once when the store answers at once. Throws or rejects
 * `unknown_job` or `unavailable`.
 */
export function readFrom(store: JobStore, jobId: string): Head | Promise<Head> {
  let read: ReturnType<JobStore["read"]>;
  try {
    read = store.read(jobId);
  } catch (thrown) {
    throw away(thrown);
  }
  if (!read || "cursor" in read) return readable(jobId, read);
  return read.then(
    (record) => readable(jobId, record),
    (thrown: unknown) => {
      throw away(thrown);
    },
  );
}

function readable(jobId: string, record: JobRecord | undefined): Head {
  if (!record?.job || record.expired) throw unknownJob(jobId);
  return { job: record.job, cursor: record.cursor };
}

export async function listFrom(store: JobStore, query: JobQuery): Promise<JobPage> {
  if (!store.list) throw new WorkflowMonitorError("unsupported", "This store cannot list jobs.");
  try {
    return await store.list(query);
  } catch (thrown) {
    throw away(thrown);
  }
}

const away = (thrown: unknown) =>
  toMonitorError(thrown, "unavailable", "The store does not answer: try again.");
