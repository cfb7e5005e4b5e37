import type { JobSnapshot, WorkflowEvent } from "@org/workflow-monitor/protocol";
import type { Connection, MonitorClientError } from "@org/workflow-monitor-client";
import fc from "fast-check";
import { play } from "../core/given.js";

export { at, job, plan, stage } from "../core/given.js";

/** The snapshot after some events. */
export const jobAfter = (...events: WorkflowEvent[]): JobSnapshot => ({
  ...play(...events),
  epoch: "k3x9q0a7mw2c",
  revision: events.length,
});

export const live: Connection = {
  state: "live",
  transport: "ws",
  cause: null,
  retryAt: null,
  stale: false,
};

export const lost = (message: string, retryAt: number | null = null): Connection => ({
  ...live,
  state: "reconnecting",
  cause: { code: "unreachable", message } as MonitorClientError,
  retryAt,
});

/** An output that keeps what is written. */
export function sink() {
  let text = "";
  return {
    write(more: string) {
      text += more;
    },
    get text() {
      return text;
    },
    get lines() {
      return text.split("\n").slice(0, -1);
    },
  };
}

/** Characters of one column, of two, and of several code points. */
export const graphemes = fc.string({
  unit: fc.constantFrom(..."aZ 0-_é", "東", "👩‍👩‍👧", "e\u0301", "नि"),
  minLength: 1,
});

/** Texts that try to get at a terminal. */
export const HOSTILE = [
  "\u001b[2J\u001b[Hgone",
  "\u001b]0;title\u0007name",
  "\u009b31mred",
  "\u001b\u001b[31m[31mtwice",
  "a\r\nb\tc",
  "\u202eevil\u2066",
  "bell\u0007\u0000\u007f",
  "\u001bPq#0;2\u001b\\sixel",
];
