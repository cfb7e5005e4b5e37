import {
  type Announced,
  type Clock,
  type JobStore,
  type ListSlice,
  memoryStore,
} from "@org/workflow-monitor";

/** A store that counts what it is asked. */
export function countingStore(options: { clock?: Clock } = {}) {
  const store = memoryStore(options);
  const counts = { reads: 0, follows: 0, following: 0, lists: 0 };
  const counting: JobStore = {
    ...store,
    read(jobId, after) {
      counts.reads += 1;
      return store.read(jobId, after);
    },
    async list(query) {
      counts.lists += 1;
      return (await store.list?.(query)) as ListSlice;
    },
    async follow(jobId, listener) {
      counts.follows += 1;
      counts.following += 1;
      const unfollow = await store.follow(jobId, listener);
      return () => {
        counts.following -= 1;
        unfollow();
      };
    },
  };
  return { store: counting, counts };
}

/** One call of the store that waits: done when told to, and answered when told to. */
export interface Held {
  name: "read" | "follow";
  /** The store does it: what it finds now is what it will answer. */
  perform(): Promise<void>;
  /** The answer arrives. */
  deliver(): void;
}

/** A store whose `read` and `follow` wait for the test at two places each. */
export function heldStore(store: JobStore): { store: JobStore; calls: Held[] } {
  const calls: Held[] = [];
  function hold<T>(name: Held["name"], work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let outcome: Promise<T> | undefined;
      calls.push({
        name,
        async perform() {
          outcome = work();
          await outcome.catch(() => {});
        },
        deliver() {
          if (!outcome) throw new Error(`${name} was not performed`);
          outcome.then(resolve, reject);
        },
      });
    });
  }
  const held: JobStore = {
    ...store,
    read: (jobId, after) => hold("read", async () => store.read(jobId, after)),
    follow: (jobId, listener) => hold("follow", () => store.follow(jobId, listener)),
  };
  return { store: held, calls };
}

/**
 * A store whose announcements pass through `announce`, which may swallow, repeat and reorder them, and
 * that says of its connection what it is told to.
 */
export function announcingStore(
  store: JobStore,
  announce: (note: Announced, tell: (note: Announced) => void) => void,
) {
  const listeners: ((note: Announced) => void)[] = [];
  const connections = new Set<(there: boolean) => void>();
  const announcing: JobStore = {
    ...store,
    connection(listener) {
      connections.add(listener);
      listener(true);
      return () => connections.delete(listener);
    },
    follow(jobId, listener) {
      listeners.push(listener);
      return store.follow(jobId, (note) => announce(note, listener));
    },
  };
  const connected = (there: boolean) => {
    for (const listener of connections) listener(there);
  };
  return { store: announcing, listeners, connected };
}
