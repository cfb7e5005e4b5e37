import fc from "fast-check";
import { expect, test } from "vitest";
import { JobOrder } from "../../packages/core/src/job-order.js";
import type { ListPlace } from "../../packages/core/src/store.js";
import { seededRandom } from "../support/random.js";

const newestFirst = (left: ListPlace, right: ListPlace): number =>
  right.createdAt.localeCompare(left.createdAt) || (right.jobId < left.jobId ? -1 : 1);

test("[S18] jobs are in order whatever comes, and goes, in which order", () => {
  const anyPlace = fc.record({
    createdAt: fc.nat({ max: 5 }).map(String),
    jobId: fc.nat({ max: 30 }).map(String),
  });
  const anyStep = fc.record({ adds: fc.boolean(), place: anyPlace });
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 100 }), anyPlace, (steps, place) => {
      const order = new JobOrder<ListPlace>();
      const known = new Map<string, ListPlace>();
      for (const { adds, place: entry } of steps) {
        const key = `${entry.createdAt} ${entry.jobId}`;
        const there = known.get(key);
        if (adds && !there) {
          known.set(key, entry);
          order.add(entry);
        } else if (!adds) {
          // One that is not there is another object, even at the place of one that is.
          order.remove(there ?? entry);
          known.delete(key);
        }
      }
      const all = [...known.values()].sort(newestFirst);
      expect([...order.behind()]).toEqual(all);
      expect([...order.behind(place)]).toEqual(
        all.filter((entry) => newestFirst(place, entry) < 0 && !isAt(entry, place)),
      );
    }),
    { seed: 20_260_101, numRuns: 300 },
  );
});

const isAt = (left: ListPlace, right: ListPlace): boolean =>
  left.createdAt === right.createdAt && left.jobId === right.jobId;

test("[S18] so they are over many blocks", () => {
  const random = seededRandom(7);
  const order = new JobOrder<ListPlace>();
  const entries: ListPlace[] = [];
  for (let n = 0; n < 5_000; n++) {
    const entry = { createdAt: String(random.below(1_000)).padStart(4, "0"), jobId: `job-${n}` };
    entries.push(entry);
    order.add(entry);
  }
  const gone = entries.filter((_, n) => n % 3 === 0 || (n > 2_000 && n < 4_000));
  for (const entry of gone) order.remove(entry);
  const left = entries.filter((entry) => !gone.includes(entry)).sort(newestFirst);
  expect([...order.behind()]).toEqual(left);
  for (let n = 0; n < left.length; n += 97)
    expect([...order.behind(left[n])]).toEqual(left.slice(n + 1));
  for (const entry of left) order.remove(entry);
  expect([...order.behind()]).toEqual([]);
});
