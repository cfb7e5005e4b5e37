import { describe, expect, test, vi } from "vitest";
import { Turns } from "../../packages/core/src/turns.js";
import { ManualClock, turns as pass } from "../support/clock.js";

const MIB = 1024 * 1024;

/** Work of some steps of 64 KiB, which goes on in the next turns; what each turn had of it. */
function work(turns: Turns, name: string, mebibytes: number, log: string[]): void {
  let left = mebibytes * 16;
  const step = () => {
    turns.spend(64 * 1024);
    log.push(name);
    left -= 1;
    return left > 0;
  };
  const go = () => {
    if (turns.share(step)) turns.next(go);
  };
  turns.next(go);
}

describe("[S18] [D5] the budget of a turn of the event loop", () => {
  test("is shared while several wait: a quarter each", async () => {
    const turns = new Turns(new ManualClock());
    const log: string[] = [];
    for (const name of ["a", "b", "c", "d", "e"]) work(turns, name, 8, log);
    await pass(1);
    const had = (name: string) => log.filter((one) => one === name).length / 16;
    expect(["a", "b", "c", "d"].map(had)).toEqual([1, 1, 1, 1]);
    expect(had("e")).toBe(0);
    log.length = 0;
    await pass(1);
    expect(had("e")).toBe(1); // the one that waited longest is the first
  });

  test("is all there is for one that is alone", async () => {
    const turns = new Turns(new ManualClock());
    const log: string[] = [];
    work(turns, "a", 8, log);
    await pass(1);
    expect(log.length / 16).toBeCloseTo(4, 0);
  });

  test("has a time, which begins anew with each turn", async () => {
    const clock = new ManualClock();
    const turns = new Turns(clock);
    for (const _ of [1, 2, 3]) {
      turns.later(MIB, () => {}); // something else waits
      turns.spend(300 * 1024);
      expect(turns.over).toBe(false);
      clock.advance(10);
      turns.spend(300 * 1024);
      expect(turns.over).toBe(true);
      await pass(1);
      expect(turns.over).toBe(false);
    }
  });

  test("leaves 1 MiB of each turn to what comes later, however much is live", async () => {
    const turns = new Turns(new ManualClock());
    const log: string[] = [];
    for (const name of ["a", "b"]) work(turns, name, 80, log);
    const done: number[] = [];
    for (const n of [1, 2, 3, 4, 5, 6]) turns.later(MIB / 2, () => done.push(n));
    await pass(1);
    expect(done).toEqual([1, 2]);
    await pass(1);
    expect(done).toEqual([1, 2, 3, 4]);
  });

  test("loses no other task when one throws", async () => {
    const turns = new Turns(new ManualClock());
    const thrown: unknown[] = [];
    const uncaught = (error: unknown) => thrown.push(error);
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException").on("uncaughtException", uncaught);
    const second = vi.fn();
    const later = vi.fn();
    turns.next(() => {
      throw new Error("of a host");
    });
    turns.next(second);
    turns.later(1, later);
    await pass(5);
    process.removeAllListeners("uncaughtException");
    for (const listener of others) process.on("uncaughtException", listener);
    expect(thrown).toHaveLength(1);
    expect(second).toHaveBeenCalledOnce();
    expect(later).toHaveBeenCalledOnce();
  });
});
