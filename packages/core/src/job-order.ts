import type { ListPlace } from "./store.js";

/** Entries of one block; the work of an insertion and of a removal is bounded by it. */
const BLOCK_LENGTH = 512;

/** Jobs in the order of the list, (createdAt, jobId): a sorted array in blocks. */
export class JobOrder<T extends ListPlace> {
  /** Oldest first, within each block and over all of them. No block is empty. */
  readonly #blocks: T[][] = [];

  /** The entry must not change its place until it is removed. */
  add(entry: T): void {
    const at = this.#blockOf(entry);
    const block = this.#blocks[at];
    if (!block) {
      this.#blocks.push([entry]);
      return;
    }
    block.splice(countBefore(block, entry), 0, entry);
    if (block.length > BLOCK_LENGTH) this.#blocks.splice(at + 1, 0, block.splice(BLOCK_LENGTH / 2));
  }

  remove(entry: T): void {
    const at = this.#blockOf(entry);
    const block = this.#blocks[at];
    const index = block ? countBefore(block, entry) : -1;
    if (block?.[index] !== entry) return;
    block.splice(index, 1);
    if (block.length === 0) this.#blocks.splice(at, 1);
  }

  /** Newest first: all entries, or those that stand behind a place. */
  *behind(place?: ListPlace): Generator<T, void, undefined> {
    let at = place ? this.#blockOf(place) : this.#blocks.length - 1;
    const first = this.#blocks[at];
    if (!first) return;
    let index = place ? countBefore(first, place) : first.length;
    for (;;) {
      const block = this.#blocks[at] as T[];
      while (index > 0) yield block[--index] as T;
      if (at === 0) return;
      at -= 1;
      index = (this.#blocks[at] as T[]).length;
    }
  }

  clear(): void {
    this.#blocks.length = 0;
  }

  /** The block that a place is in, or would be in. */
  #blockOf(place: ListPlace): number {
    const notAfter = count(this.#blocks, ([oldest]) => !isBefore(place, oldest as T));
    return Math.max(0, notAfter - 1);
  }
}

const countBefore = (block: readonly ListPlace[], place: ListPlace): number =>
  count(block, (entry) => isBefore(entry, place));

const isBefore = (left: ListPlace, right: ListPlace): boolean =>
  left.createdAt < right.createdAt ||
  (left.createdAt === right.createdAt && left.jobId < right.jobId);

/** How many items at the beginning pass a test that no item after them passes. */
function count<T>(items: readonly T[], test: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (test(items[middle] as T)) low = middle + 1;
    else high = middle;
  }
  return low;
}
