import { type Announced, type Cursor, printCursor } from "@org/workflow-monitor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { seededRandom } from "../support/random.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import { publisherOn, range, storeOn, whole } from "./given.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server?.close());

/** What was seen at each cursor, by whoever. */
class Seen {
  readonly #texts = new Map<string, string>();

  #at(what: string, cursor: Cursor, text: string): void {
    const key = `${what} ${printCursor(cursor)}`;
    const before = this.#texts.get(key);
    if (before !== undefined && before !== text)
      throw new Error(`two of ${key}:\n${before}\n${text}`);
    this.#texts.set(key, text);
  }

  job(cursor: Cursor, job: unknown): void {
    this.#at("job", cursor, JSON.stringify(job));
  }

  /** The last of them is at the cursor. */
  events({ epoch, revision }: Cursor, events: readonly string[]): void {
    expect(events.length).toBeLessThanOrEqual(revision);
    for (const [at, text] of events.entries())
      this.#at("event", { epoch, revision: revision - events.length + at + 1 }, text);
  }

  get size(): number {
    return this.#texts.size;
  }
}

const ORDERS = [
  [0, 1, 2],
  [2, 1, 0],
  [1, 0, 2],
  [1, 2, 0],
];
const DISASTERS = ["restart", "lag", "head", "log", "flush", "none"] as const;

describe.skipIf(withoutRedis)("whatever happens to a job in Redis", () => {
  test.each(range(40))(
    "[R1] [R18] a cursor has one event and one state, and what was acknowledged comes back (seed %i)",
    async (seed) => {
      const { pick, below } = seededRandom(seed);
      const prefix = `one${seed}:`;
      const key = (name: string) => `${prefix}{j}:${name}`;
      const client = redisClient(server.port);
      const publishers = range(3).map(() => publisherOn(server.port, { store: { prefix } }));
      const reader = storeOn(server.port, { prefix });
      const seen = new Seen();
      const last: number[] = [0, 0, 0];
      let count = 0;
      await reader.follow("j", ({ cursor, revisions }: Announced) =>
        seen.events(
          cursor,
          revisions.map(({ event }) => event),
        ),
      );
      const say = async (who: number) => {
        count += 1;
        last[who] = count;
        const stage = `${who}`;
        const message = `${count}`;
        await publishers[who]?.monitor.publish({ type: "stage", jobId: "j", stage, message });
      };
      const some = async (most: number) => {
        for (const _ of range(below(most))) {
          if (below(4) === 0) await Promise.all(range(3).map(say));
          else await say(below(3));
        }
      };
      const look = async () => {
        const record = await reader.read("j", { epoch: "", revision: 0 });
        if (!record) return;
        seen.job(record.cursor, record.job);
        seen.events(record.cursor, record.events ?? []);
      };
      const copy = async (from: string, to: string) => {
        for (const name of ["head", "log"])
          await client.call("COPY", `${from}${name}`, `${to}${name}`, "REPLACE");
      };
      const another = () => client.call("HSET", key("head"), "life", `life-${++count}`);

      await Promise.all(range(3).map(say));
      for (const _ of range(6)) {
        await some(4);
        await look();
        const disaster = pick(DISASTERS) ?? "none";
        if (disaster === "restart") await another();
        else if (disaster === "lag") {
          await copy(key(""), key("kept-"));
          await some(4);
          await look();
          await copy(key("kept-"), key(""));
          await another();
        } else if (disaster === "flush") await client.call("DEL", key("head"), key("log"));
        else if (disaster !== "none") await client.call("DEL", key(disaster));
        if (below(2)) await look();
        // Everybody hears of it, and sees to what he knows.
        const order = pick(ORDERS) ?? [];
        if (below(2)) await Promise.all(order.map(say));
        else for (const who of order) await say(who);
        await look();
        const { job } = await whole(reader);
        for (const who of range(3)) {
          const stage = job.stages.find((each) => each.stage === `${who}`);
          expect(`${disaster}: ${who} ${stage?.message}`).toBe(`${disaster}: ${who} ${last[who]}`);
        }
      }
      expect(seen.size).toBeGreaterThan(20);
    },
  );
});
