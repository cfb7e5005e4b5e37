import type {
  Cursor,
  JobState,
  JobSummary,
  ListPlace,
  ListQuery,
  ListSlice,
  Logger,
} from "@org/workflow-monitor";
import type { Connection } from "./connection.js";
import { cursorOf, keysOf, summaryOf } from "./layout.js";
import { index, page, summary, unindex } from "./scripts.js";

/** What was written of a job; labels that did not change are the same object. */
interface Known extends Pick<JobState, "status" | "labels"> {
  epoch: string;
  /** When it is renewed at the latest, by the monotonic clock. */
  until: number;
}

/** Jobs of which this process knows what stands in the index. */
const KNOWN_JOBS = 10_000;
/** So many are looked at for one page; with fewer rows than asked for, it says where to go on. */
const LOOKED_AT = 1_000;
/** An entry is renewed when this part of its time is over. */
const RENEWED_AFTER = 0.1;

/**
 * Which jobs there are, for `list`: sorted sets by (createdAt, jobId). Written after an append, when
 * what it says has changed; so it may be behind, and lack a job whose publisher died in between. What
 * reads find to be otherwise, they put right.
 */
export class JobIndex {
  readonly #connection: Connection;
  readonly #prefix: string;
  readonly #logger: Logger;
  readonly #keys: [entries: string, expiry: string];
  /** What was written last, in order of use. */
  readonly #known = new Map<string, Known>();
  readonly #writing = new Set<Promise<unknown>>();

  constructor(connection: Connection, prefix: string, logger: Logger) {
    this.#connection = connection;
    this.#prefix = prefix;
    this.#logger = logger;
    this.#keys = [`${prefix}{jobs}:entries`, `${prefix}{jobs}:expiry`];
  }

  /** After an append. Does not wait, and does not fail. */
  note(job: JobState, cursor: Cursor, ttlMs: number): void {
    const { jobId } = job;
    const now = performance.now();
    const { status, labels } = job;
    const known = this.#known.get(jobId);
    const { epoch } = cursor;
    // With another epoch begins another life of the job: what took the last one may have taken the index.
    const same = known?.epoch === epoch && known.status === status && known.labels === labels;
    if (same && now < known.until) return;
    this.#known.delete(jobId);
    this.#known.set(jobId, { epoch, status, labels, until: now + ttlMs * RENEWED_AFTER });
    if (this.#known.size > KNOWN_JOBS)
      this.#known.delete(this.#known.keys().next().value as string);
    const work: Promise<unknown> = this.#write(job, cursor, Date.now() + ttlMs)
      .then((over) => this.#sweep(over))
      .catch((err: unknown) => {
        this.#known.delete(jobId); // the next append tries again
        this.#logger.warn({ jobId, err }, "the index of jobs was not written");
      })
      .finally(() => this.#writing.delete(work));
    this.#writing.add(work);
  }

  /** What this process has appended is in it. */
  async list({ status, labels = {}, limit, after }: ListQuery): Promise<ListSlice> {
    await Promise.all(this.#writing);
    const sets = ["all", ...labelSets(labels), ...(status ? [statusSet(status)] : [])];
    const wanted = (job: JobSummary) =>
      (status === undefined || job.status === status) &&
      Object.entries(labels).every(
        ([key, value]) => Object.hasOwn(job.labels, key) && job.labels[key] === value,
      );
    const rows: JobSummary[] = [];
    let place: Place = after ? { ...after, createdAt: Date.parse(after.createdAt) } : NEWEST;
    for (let looked = 0; looked < LOOKED_AT; ) {
      const most = Math.min(LOOKED_AT - looked, limit + 1);
      const args = [this.#setPrefix, place.createdAt, place.jobId, most, ...sets];
      const found = (await this.#connection.run(page, [this.#keys[0]], args)) as string[];
      const listed = triples(found);
      const look = ({ jobId, entry }: (typeof listed)[number]) => this.#look(jobId, entry, sets);
      for (const found of await Promise.all(listed.map(look)))
        if (found && wanted(found.row)) rows.push(found.row);
      if (rows.length > limit) {
        const shown = rows.slice(0, limit);
        return { jobs: shown, next: placeOf(shown.at(-1) as JobSummary) };
      }
      if (listed.length < most) return { jobs: rows, next: null };
      looked += listed.length;
      place = listed.at(-1) as Place;
    }
    const createdAt = new Date(Number(place.createdAt)).toISOString();
    return { jobs: rows, next: { createdAt, jobId: place.jobId } };
  }

  get #setPrefix(): string {
    return `${this.#prefix}{jobs}:`;
  }

  /** Writes what there is to know of a job; resolves to some jobs whose time is over, and their entries. */
  async #write(job: JobSummary | JobState, cursor: Cursor, expires: number): Promise<string[]> {
    const { jobId, createdAt } = job;
    const place = [jobId, cursor.epoch, cursor.revision, Date.parse(createdAt), expires];
    const args = [this.#setPrefix, ...place, JSON.stringify(setsOf(job))];
    return (await this.#connection.run(index, this.#keys, args)) as string[];
  }

  /** Somebody has to look after those that nobody lists: they are gone, or live longer than was known. */
  async #sweep(over: string[]): Promise<void> {
    for (let n = 0; n < over.length; n += 2) {
      const job = await this.#look(over[n] as string, over[n + 1] as string, ["all"]);
      if (job) await this.#write(job.row, job.row, job.expires);
    }
  }

  /** The job of an entry, which is put right; undefined when there is none to be read. `sets`: where it was found. */
  async #look(jobId: string, entry: string, sets: string[]): Promise<Found | undefined> {
    const { head } = keysOf(this.#prefix, jobId);
    const reply = (await this.#connection.run(summary, [head], [])) as Summary | null;
    // One that is over is not listed: another run of it would be written in anew.
    if (!reply || reply[2]) {
      const args = [this.#setPrefix, jobId, entry, ...sets];
      await this.#connection.run(unindex, this.#keys, args);
      return undefined;
    }
    const [at, expires, , fields] = reply;
    const found = { row: summaryOf(fields, cursorOf(at)), expires: Number(expires) };
    const known = entry === "" ? [] : (JSON.parse(entry) as [string, number, string[]])[2];
    if (String(known) !== String(setsOf(found.row)))
      await this.#write(found.row, found.row, found.expires);
    return found;
  }
}

interface Found {
  row: JobSummary;
  /** When its time to read is over, in milliseconds since 1970. */
  expires: number;
}

type Summary = [cursor: string, expires: string, expired: number, fields: string[]];

interface Place {
  /** Milliseconds since 1970. */
  createdAt: number | string;
  jobId: string;
}

const NEWEST: Place = { createdAt: "+inf", jobId: "" };

const placeOf = ({ createdAt, jobId }: JobSummary): ListPlace => ({ createdAt, jobId });

function triples(found: readonly string[]) {
  const all: (Place & { entry: string })[] = [];
  for (let n = 0; n < found.length; n += 3) {
    const [jobId, createdAt, entry] = found.slice(n, n + 3) as [string, string, string];
    all.push({ jobId, createdAt, entry });
  }
  return all;
}

const statusSet = (status: string): string => `status:${status}`;
const labelSets = (labels: Record<string, string>): string[] =>
  Object.entries(labels).map((label) => `label:${JSON.stringify(label)}`);

const setsOf = ({ status, labels }: Pick<JobState, "status" | "labels">): string[] => [
  "all",
  statusSet(status),
  ...labelSets(labels),
];
