import type {
  Codec,
  EndReason,
  Frame,
  Member,
  Mode,
  Seat,
  WatchRequest,
  WorkflowMonitor,
} from "@org/workflow-monitor";

const EMPTY = Buffer.alloc(0);
const NEWLINE = Buffer.from("\n");

/** Frames as lines of JSON. */
export const createCodec = (): Codec => ({ wrap: () => ({ head: EMPTY, tail: NEWLINE }) });
const lines = createCodec();

/** A member in memory that keeps what it gets. */
export class FakeMember implements Member {
  readonly codec: Codec;
  readonly mode: Mode;
  writable = true;
  /** One entry a call of `write`. */
  readonly writes: (readonly Uint8Array[])[] = [];
  readonly ends: EndReason[] = [];

  constructor({ mode = "full", codec = lines }: { mode?: Mode; codec?: Codec } = {}) {
    this.mode = mode;
    this.codec = codec;
  }

  write(parts: readonly Uint8Array[]): void {
    this.writes.push([...parts]);
  }

  end(reason: EndReason): void {
    this.ends.push(reason);
  }

  /** The frames of the writes from this one on. */
  frames(from = 0): Frame[] {
    return this.writes
      .slice(from)
      .flatMap((parts) => Buffer.concat(parts).toString().trimEnd().split("\n"))
      .map((line) => JSON.parse(line) as Frame);
  }

  types(from = 0): string[] {
    return this.frames(from).map(({ type }) => type);
  }
}

export const watchRequest = (jobId: string): WatchRequest => ({
  jobId,
  action: "watch",
  transport: "ws",
  headers: {},
  query: {},
  remoteAddress: undefined,
});

/** Seats a new member in a job's room. */
export async function join(
  monitor: WorkflowMonitor,
  jobId: string,
  options: ConstructorParameters<typeof FakeMember>[0] & {
    after?: { epoch: string; revision: number };
  } = {},
): Promise<{ member: FakeMember; seat: Seat }> {
  const member = new FakeMember(options);
  const seat = await monitor.egress.join(watchRequest(jobId), member, options.after ?? null);
  return { member, seat };
}
