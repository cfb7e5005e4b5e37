import { HISTORY_STRETCH } from "./limits.js";

/** A piece of the log's text, appended to until it is full, never changed where it is written. */
interface Chunk {
  bytes: Buffer;
  used: number;
  /** Where each event begins. */
  starts: number[];
  /** When the last one came. */
  at: number;
}

const CHUNK_BYTES = { least: 1024, most: 16 * 1024 };

/**
 * The last events of a job as UTF-8 text, `,event,event…`: what a viewer missed is a slice of it
 * without its first comma, shared by everybody who missed the same.
 */
export class History {
  #chunks: Chunk[] = [];
  #count = 0;
  #bytes = 0;

  /** How many events it holds: the newest ones. */
  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  append(events: readonly string[], now: number): void {
    for (const event of events) {
      const length = Buffer.byteLength(event) + 1;
      const chunk = this.#chunkFor(length);
      chunk.starts.push(chunk.used);
      chunk.bytes[chunk.used] = 0x2c; // a comma
      chunk.bytes.write(event, chunk.used + 1);
      chunk.used += length;
      chunk.at = now;
      this.#bytes += length;
    }
    this.#count += events.length;
  }

  /** The last `count` events, as parts of one text `event,event…`; undefined when it holds fewer. */
  last(count: number): Buffer[] | undefined {
    if (count > this.#count) return undefined;
    const parts: Buffer[] = [];
    let missing = count;
    for (let at = this.#chunks.length - 1; missing > 0; at--) {
      const chunk = this.#chunks[at] as Chunk;
      const from = chunk.starts[Math.max(0, chunk.starts.length - missing)] as number;
      missing -= chunk.starts.length;
      // The oldest event of all loses its comma.
      parts.unshift(chunk.bytes.subarray(missing > 0 ? from : from + 1, chunk.used));
    }
    return parts;
  }

  /** Lets go of the oldest: beyond `historyBytes`, if older than `keepMs`; beyond several times that, at any age. */
  trim(historyBytes: number, now: number, keepMs: number): void {
    let gone = 0;
    for (const chunk of this.#chunks) {
      const rest = this.#bytes - chunk.used;
      const young = chunk.at > now - keepMs && rest < historyBytes * (HISTORY_STRETCH - 1);
      if (rest < historyBytes || young) break;
      this.#bytes -= chunk.used;
      this.#count -= chunk.starts.length;
      gone += 1;
    }
    if (gone > 0) this.#chunks.splice(0, gone);
  }

  clear(): void {
    this.#chunks = [];
    this.#count = 0;
    this.#bytes = 0;
  }

  #chunkFor(length: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last && last.used + length <= last.bytes.length) return last;
    const size = last ? Math.min(2 * last.bytes.length, CHUNK_BYTES.most) : CHUNK_BYTES.least;
    // Not from the pool: a kept slice would pin a slab of it.
    const bytes = Buffer.allocUnsafeSlow(Math.max(size, length));
    const chunk: Chunk = { bytes, used: 0, starts: [], at: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }
}
