import { type Host, platform } from "../../packages/client/src/host.js";
import { testHost } from "./client.js";

const LONGEST_MS = 25;

/**
 * A host in a hurry: no timer takes more than 25 ms, so that a client climbs and polls all the time.
 * Deadlines, which look at the clock, stay what they are.
 */
export function hastyHost(): Host & { readonly timers: number } {
  let timers = 0;
  const host = testHost({
    random: () => 0,
    setTimeout(fn, ms) {
      let pending = true;
      const settle = () => {
        if (pending) timers -= 1;
        pending = false;
      };
      timers += 1;
      const cancel = platform.setTimeout(
        () => {
          settle();
          fn();
        },
        Math.min(ms, LONGEST_MS),
      );
      return () => {
        settle();
        cancel();
      };
    },
  });
  return {
    ...host,
    get timers() {
      return timers;
    },
  };
}
