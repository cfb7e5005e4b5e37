import { randomBytes } from "node:crypto";
import { WorkflowMonitorError } from "./errors.js";
import type { Clock } from "./host.js";
import { openPlace, sealPlace } from "./page-cursor.js";
import type { JobSummary } from "./snapshot.js";
import type { JobPage, JobQuery, JobStore, ListPlace, ListQuery, ListSlice } from "./store.js";
import type { StoreFaults } from "./store-faults.js";
import { LATER_BYTES, type Turns } from "./turns.js";

/** Whether a row may be shown. Throws or rejects a WorkflowMonitorError. */
export type MaySee = (row: JobSummary) => boolean | Promise<boolean>;

/** Jobs that one request asks the store for, about. Then its page ends, and `next` goes on from there. SPEC D14. */
const LOOKED_AT = 20_000;
/** Jobs that one call of the store looks at, if its filter leaves few of them. */
const STORE_LOOKS = 1_000;
/** Rows of one call of the store, after the first. */
const SLICE_ROWS = 256;
/** Time that questions about rows may take from one turn of the event loop. */
const SLICE_MS = 2;
/** Time after which a search that waits for another one's read does so no longer. */
const NEXT_READ_MS = 5_000;
/** Questions that wait for their answer at a time. */
const ASKED_AT_ONCE = 64;

export interface ListingOptions {
  store: JobStore;
  faults: StoreFaults;
  clock: Clock;
  turns: Turns;
}

/**
 * Pages of jobs, of rows that may be seen. The store is asked slice by slice until a page is full and
 * one more row is known, so that `next` tells of nothing but rows that may be seen.
 */
export class Listing {
  readonly #store: JobStore;
  readonly #faults: StoreFaults;
  readonly #clock: Clock;
  readonly #turns: Turns;
  /** The last read of those that go beyond the first slice of their page. */
  #lastRead: Promise<void> = Promise.resolve();
  /** Of a store that has none. */
  readonly #ownSecret = randomBytes(32);

  constructor({ store, faults, clock, turns }: ListingOptions) {
    this.#store = store;
    this.#faults = faults;
    this.#clock = clock;
    this.#turns = turns;
  }

  /**
   * @param isOver nobody waits for the page any more: the search ends
   * @throws WorkflowMonitorError `bad_request` for a cursor that is not of this list, `unavailable`
   */
  async page(
    { cursor, ...query }: JobQuery,
    maySee: MaySee,
    isOver: () => boolean,
  ): Promise<JobPage> {
    const { limit } = query;
    if (!(limit >= 1))
      throw new WorkflowMonitorError("bad_request", "limit must be a number of at least 1.");
    let after = cursor === undefined ? undefined : await this.#open(cursor);
    const jobs: JobSummary[] = [];
    let most = Math.min(limit + 1, SLICE_ROWS);
    for (let looked = 0; looked < LOOKED_AT; most = SLICE_ROWS) {
      const asked = { ...query, limit: most, ...(after && { after }) };
      const read = async () => {
        await this.#turn(isOver);
        return this.#read(asked);
      };
      const slice = await (looked === 0 ? read() : this.#oneByOne(read));
      for await (const row of this.#visible(slice.jobs, maySee, isOver)) {
        const last = jobs.at(-1);
        if (jobs.length >= limit && last) return { jobs, next: await this.#seal(last) };
        jobs.push(row);
      }
      if (!slice.next) return { jobs, next: null };
      after = slice.next;
      looked += slice.jobs.length < most ? STORE_LOOKS : most;
    }
    return { jobs, next: after ? await this.#seal(after) : null };
  }

  /** Reads of all searches, one at a time: many of them load a store no more than one does. */
  async #oneByOne<T>(read: () => Promise<T>): Promise<T> {
    const before = this.#lastRead;
    let end = () => {};
    this.#lastRead = new Promise((resolve) => {
      end = resolve;
    });
    await before;
    // A store that never answers must not hold up the others.
    const cancel = this.#clock.setTimeout(end, NEXT_READ_MS);
    try {
      return await read();
    } finally {
      cancel();
      end();
    }
  }

  async #read(query: ListQuery): Promise<ListSlice> {
    if (!this.#store.list)
      throw new WorkflowMonitorError("unsupported", "This store cannot list jobs.");
    try {
      const slice = await this.#store.list(query);
      for (const error of slice.damaged ?? []) this.#faults.note(error, error.jobId);
      return slice;
    } catch (thrown) {
      throw this.#faults.shown(thrown);
    }
  }

  /** The rows that may be seen, in order. */
  async *#visible(
    rows: readonly JobSummary[],
    maySee: MaySee,
    isOver: () => boolean,
  ): AsyncGenerator<JobSummary, void, undefined> {
    for (let at = 0; at < rows.length; ) {
      await this.#turn(isOver);
      const answers = await Promise.all(this.#ask(rows, at, maySee));
      for (const isVisible of answers) {
        const row = rows[at++];
        if (isVisible && row) yield row;
      }
    }
  }

  /** Asks about the rows from `at` on: about as many as one turn has time for, and at least one. */
  #ask(rows: readonly JobSummary[], at: number, maySee: MaySee): Promise<boolean>[] {
    const until = this.#clock.monotonic() + SLICE_MS;
    const answers: Promise<boolean>[] = [];
    let waiting = 0;
    for (const row of rows.slice(at)) {
      try {
        const answer = maySee(row);
        answers.push(Promise.resolve(answer));
        if (typeof answer !== "boolean") waiting += 1;
      } catch (thrown) {
        // As a promise, so that those who were asked before are waited for.
        answers.push(Promise.reject(thrown as Error));
        break;
      }
      if (waiting === ASKED_AT_ONCE || this.#clock.monotonic() >= until) break;
    }
    return answers;
  }

  async #turn(isOver: () => boolean): Promise<void> {
    await new Promise<void>((resolve) => this.#turns.later(LATER_BYTES, resolve));
    if (isOver()) throw new WorkflowMonitorError("closed", "Nobody waits for this list any more.");
  }

  async #open(cursor: string): Promise<ListPlace> {
    const place = openPlace(cursor, await this.#secret());
    if (place) return place;
    const message = "cursor must be `next` of the page before; begin at the first page.";
    throw new WorkflowMonitorError("bad_request", message);
  }

  async #seal(place: ListPlace): Promise<string> {
    return sealPlace(place, await this.#secret());
  }

  async #secret(): Promise<Uint8Array> {
    try {
      return (await this.#store.secret?.()) ?? this.#ownSecret;
    } catch (thrown) {
      throw this.#faults.shown(thrown);
    }
  }
}
