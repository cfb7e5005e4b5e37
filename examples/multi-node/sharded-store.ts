import { createHash } from "node:crypto";
import type { JobStore } from "@org/workflow-monitor";

/**
 * Several stores as one: a job's id says which of them has it. All processes have to name them in the
 * same order, and to begin anew when there is another one. It cannot list jobs.
 */
export function shardedStore(shards: readonly JobStore[]): JobStore {
  function of(jobId: string): JobStore {
    const number = createHash("sha1").update(jobId).digest().readUInt32BE();
    return shards[number % shards.length] as JobStore;
  }

  return {
    read: (jobId, after) => of(jobId).read(jobId, after),
    append: (jobId, base, batch) => of(jobId).append(jobId, base, batch),
    find: (jobId, batchId) => of(jobId).find(jobId, batchId),
    follow: (jobId, listener) => of(jobId).follow(jobId, listener),
    /** It is there when all of them are: after any of them was away, everything is read again. */
    connection(listener) {
      const away = new Set(shards.filter((shard) => shard.connection));
      let last: boolean | undefined;
      const tell = () => {
        const there = away.size === 0;
        if (there !== last) listener(there);
        last = there;
      };
      const stops = [...away].map((shard) =>
        shard.connection?.((there) => {
          if (there) away.delete(shard);
          else away.add(shard);
          tell();
        }),
      );
      tell();
      return () => {
        for (const stop of stops) stop?.();
      };
    },
    async health() {
      await Promise.all(shards.map(async (shard) => shard.health?.()));
    },
    async close() {
      await Promise.all(shards.map((shard) => shard.close()));
    },
  };
}
