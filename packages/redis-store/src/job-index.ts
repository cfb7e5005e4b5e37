import type {
  Cursor,
  JobState,
  JobSummary,
  ListPlace,
  ListQuery,
  ListSlice,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import type { Connection } from "./connection.js";
import { withData } from "./damage.js";
import { cursorOf, keysOf, summaryOf } from "./layout.js";
import { wordsOf } from "./replies.js";
import { index, mend, page, type Script, summary, unindex } from "./scripts.js";
import type { Warnings } from "./warnings.js";

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
  readonly #warnings: Warnings;
  readonly #keys: [entries: string, expiry: string];
  /** What was written last, in order of use. */
  readonly #known = new Map<string, Known>();
  readonly #writing = new Set<Promise<unknown>>();

  constructor(connection: Connection, prefix: string, warnings: Warnings) {
    this.#connection = connection;
    this.#prefix = prefix;
    this.#warnings = warnings;
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
        this.#warnings.say(`The index of jobs was not written: ${wordsOf(err)}`, { jobId });
      })
      .finally(() => this.#writing.delete(work));
    this.#writing.add(work);
  }

  /** What this process has appended is in it; damaged jobs are not. */
  async list({ status, labels = {}, limit, after }: ListQuery): Promise<ListSlice> {
    await Promise.all(this.#writing);
    const sets = ["all", ...labelSets(labels), ...(status ? [statusSet(status)] : [])];
    const wanted = (job: JobSummary) =>
      (status === undefined || job.status === status) &&
      Object.entries(labels).every(
        ([key, value]) => Object.hasOwn(job.labels, key) && job.labels[key] === value,
      );
    const rows: JobSummary[] = [];
    const damaged: WorkflowMonitorError[] = [];
    let place: Place = after ? { ...after, createdAt: Date.parse(after.createdAt) } : NEWEST;
    for (let looked = 0; looked < LOOKED_AT; ) {
      const most = Math.min(LOOKED_AT - looked, limit + 1);
      const args = [this.#setPrefix, place.createdAt, place.jobId, most, ...sets];
      const found = (await this.#run(page, [this.#keys[0]], args, sets)) as string[];
      const listed = triples(found);
      const look = ({ jobId, entry }: (typeof listed)[number]) => this.#look(jobId, entry, sets);
      for (const found of await Promise.all(listed.map(look))) {
        if (found instanceof Error) damaged.push(found);
        else if (found && wanted(found.row)) rows.push(found.row);
      }
      if (rows.length > limit) {
        const shown = rows.slice(0, limit);
        return { jobs: shown, next: placeOf(shown.at(-1) as JobSummary), damaged };
      }
      if (listed.length < most) return { jobs: rows, next: null, damaged };
      looked += listed.length;
      place = listed.at(-1) as Place;
    }
    const createdAt = new Date(Number(place.createdAt)).toISOString();
    return { jobs: rows, next: { createdAt, jobId: place.jobId }, damaged };
  }

  get #setPrefix(): string {
    return `${this.#prefix}{jobs}:`;
  }

  /** Writes what there is to know of a job; resolves to some jobs whose time is over, and their entries. */
  async #write(job: JobSummary | JobState, cursor: Cursor, expires: number): Promise<string[]> {
    const { jobId, createdAt } = job;
    const place = [jobId, cursor.epoch, cursor.revision, Date.parse(createdAt), expires];
    const sets = setsOf(job);
    const args = [this.#setPrefix, ...place, JSON.stringify(sets)];
    return (await this.#run(index, this.#keys, args, sets)) as string[];
  }

  /** Runs a script of the index. Keys of another type are deleted: what stood there comes back with the jobs' next changes. */
  async #run(script: Script, keys: string[], args: (string | number)[], sets: string[]) {
    try {
      return await this.#connection.run(script, keys, args);
    } catch (thrown) {
      if ((thrown as WorkflowMonitorError).code !== "damaged") throw thrown;
      const gone = await this.#connection.run(mend, this.#keys, [this.#setPrefix, ...sets]);
      this.#known.clear();
      const what = `The index of jobs was damaged (${wordsOf(thrown)})`;
      this.#warnings.say(`${what}: deleted ${gone}. Jobs come back to the list when they change.`);
      return this.#connection.run(script, keys, args);
    }
  }

  /** Somebody has to look after those that nobody lists: they are gone, or live longer than was known. */
  async #sweep(over: string[]): Promise<void> {
    for (let n = 0; n < over.length; n += 2) {
      const [jobId, entry] = over.slice(n, n + 2) as [string, string];
      const job = await this.#look(jobId, entry, ["all"]);
      if (job instanceof Error) await this.#remove(jobId, entry, ["all"]);
      else if (job) await this.#write(job.row, job.row, job.expires);
    }
  }

  /**
   * The job of an entry, which is put right; undefined when there is none to be read, an error when it is damaged.
   * `sets`: where it was found.
   */
  async #look(
    jobId: string,
    entry: string,
    sets: string[],
  ): Promise<Found | WorkflowMonitorError | undefined> {
    let found: Found | undefined;
    try {
      found = await this.#read(jobId);
    } catch (thrown) {
      if ((thrown as WorkflowMonitorError).code !== "damaged") throw thrown;
      return thrown as WorkflowMonitorError;
    }
    if (!found) await this.#remove(jobId, entry, sets);
    else if (String(setsIn(entry)) !== String(found.sets))
      await this.#write(found.row, found.row, found.expires);
    return found;
  }

  #read(jobId: string): Promise<Found | undefined> {
    const keys = keysOf(this.#prefix, jobId);
    return withData(jobId, keys, async () => {
      const reply = (await this.#connection.run(summary, [keys.head], [])) as Summary | null;
      // One that is over is not listed: another run of it would be written in anew.
      if (!reply || reply[2]) return undefined;
      const [at, expires, , fields] = reply;
      const row = summaryOf(fields, cursorOf(at));
      if (Number.isNaN(Date.parse(row.createdAt))) throw new Error("createdAt is no time");
      return { row, sets: setsOf(row), expires: Number(expires) };
    });
  }

  async #remove(jobId: string, entry: string, sets: string[]): Promise<void> {
    const args = [this.#setPrefix, jobId, entry, ...sets];
    await this.#run(unindex, this.#keys, args, sets);
  }
}

interface Found {
  row: JobSummary;
  /** Where it belongs. */
  sets: string[];
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

/** The sets that an entry names; none for one that cannot be read. */
function setsIn(entry: string): unknown {
  try {
    return (JSON.parse(entry) as unknown[])[2];
  } catch {
    return undefined;
  }
}

const statusSet = (status: string): string => `status:${status}`;
const labelSets = (labels: Record<string, string>): string[] =>
  Object.entries(labels).map((label) => `label:${JSON.stringify(label)}`);

const setsOf = ({ status, labels }: Pick<JobState, "status" | "labels">): string[] => [
  "all",
  statusSet(status),
  ...labelSets(labels),
];
