import {
  type Announced,
  type Batch,
  type JobStore,
  type MemoryStoreOptions,
  memoryStore,
} from "@org/workflow-monitor";
import { type ManualClock, turns } from "../../support/clock.js";
import { announcingStore } from "../../support/stores.js";
import type { ModelLog } from "./log.js";

interface Follower {
  jobId: string;
  listener: (note: Announced) => void;
  unfollow: () => void;
}

/** A memory store that may lose its logs, and tells the model what it takes. */
export interface Backend {
  readonly store: JobStore;
  /** Those who follow. */
  readonly following: number;
  /** All logs are gone; who followed follows on. */
  restart(): void;
}

export function createBackend(log: ModelLog, jobId: string, options: MemoryStoreOptions): Backend {
  const followers = new Set<Follower>();
  let appending: Batch | undefined;
  let inner: JobStore;
  open();

  /** `follow` of a memory store is at once. */
  function attach(follower: Follower): Promise<void> {
    return inner.follow(follower.jobId, follower.listener).then((unfollow) => {
      follower.unfollow = unfollow;
      if (!followers.has(follower)) unfollow(); // it stopped meanwhile
    });
  }

  function open(): void {
    inner = memoryStore(options);
    // The model hears of a batch before anybody else.
    void inner.follow(jobId, (note) => {
      log.append(note, appending?.job.done === true);
    });
    for (const follower of followers) void attach(follower);
  }

  const store: JobStore = {
    read: (...args) => inner.read(...args),
    append(job, base, batch) {
      appending = batch; // its announcement is synchronous
      return inner.append(job, base, batch);
    },
    find: (...args) => inner.find(...args),
    async follow(job, listener) {
      const follower: Follower = { jobId: job, listener, unfollow() {} };
      followers.add(follower);
      await attach(follower);
      return () => {
        followers.delete(follower);
        follower.unfollow();
      };
    },
    close: () => inner.close(),
  };

  return {
    store,
    get following() {
      return followers.size;
    },
    restart() {
      void inner.close();
      log.lose();
      open();
    },
  };
}

/** What becomes of announcements on their way. */
export type Weather = "fair" | "lost" | "twice" | "late";

/** What lies between a node and the store: time, bad luck with announcements, and times without a connection. */
export class Link {
  readonly store: JobStore;
  weather: Weather = "fair";
  /** Announcements got lost that nothing but the regular check can make up for. */
  lossy = false;
  /** The connection is lost: nothing gets through. */
  away = false;
  /** Calls on their way. */
  busy = 0;
  readonly #late: (() => void)[] = [];
  readonly #connected: (there: boolean) => void;
  readonly #delay: () => number;

  /**
   * @param delay how many turns the next message takes
   * @param unknown nobody knows whether a batch of so many revisions was stored
   */
  constructor(backend: JobStore, delay: () => number, unknown: (revisions: number) => void) {
    this.#delay = delay;
    const { store, connected } = announcingStore(backend, (note, tell) =>
      this.#announce(note, tell),
    );
    this.#connected = connected;
    this.store = {
      read: (...args) => this.#call(() => store.read(...args)),
      append: (jobId, base, batch) =>
        this.#call(
          () => store.append(jobId, base, batch),
          () => unknown(batch.revisions.length),
        ),
      find: (...args) => this.#call(() => store.find(...args)),
      follow: (...args) => this.#follow(() => store.follow(...args)),
      ...(store.connection && { connection: store.connection }),
      async close() {},
    };
  }

  /** There and back; on both ways the connection may turn out to be lost. */
  async #call<T>(work: () => T | Promise<T>, unanswered = () => {}): Promise<T> {
    this.busy += 1;
    try {
      await turns(this.#delay());
      this.#assertThere();
      const answer = await work();
      await turns(this.#delay());
      if (this.away) unanswered();
      this.#assertThere();
      return answer;
    } finally {
      this.busy -= 1;
    }
  }

  /** A rejection leaves nobody behind who follows. */
  #follow(work: () => Promise<() => void>): Promise<() => void> {
    let unfollow = () => {};
    return this.#call(
      async () => {
        unfollow = await work();
        return unfollow;
      },
      () => unfollow(),
    );
  }

  #assertThere(): void {
    if (this.away) throw new Error("the store is away");
  }

  #announce(note: Announced, tell: (note: Announced) => void): void {
    if (this.away) return; // reading will make up for it
    if (this.weather === "lost") this.lossy = true;
    else if (this.weather === "late") this.#late.push(() => tell(note));
    else tell(note);
    if (this.weather === "twice") tell(note);
  }

  /** What was late arrives, the last one first. */
  change(weather: Weather): void {
    this.weather = weather;
    for (const tell of this.#late.splice(0).reverse()) tell();
  }

  lose(): void {
    if (this.away) return;
    this.away = true;
    this.#late.length = 0;
    this.#connected(false);
  }

  restore(): void {
    if (!this.away) return;
    this.away = false;
    this.#connected(true);
  }
}

/** A clock that shares its time with others and counts its own timers. */
export function countingClock(clock: ManualClock) {
  const timers = new Set<object>();
  return {
    now: clock.now,
    monotonic: clock.monotonic,
    setTimeout(fn: () => void, ms: number) {
      const timer = {};
      timers.add(timer);
      const cancel = clock.setTimeout(() => {
        timers.delete(timer);
        fn();
      }, ms);
      return () => {
        timers.delete(timer);
        cancel();
      };
    },
    get timers() {
      return timers.size;
    },
  };
}
