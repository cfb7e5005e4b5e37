import type { Output, View } from "./view.js";

/**
 * A value as one line of JSON. What JSON leaves as it is and a terminal might obey (DEL, C1) or take
 * for a line break is written as an escape: the value is the same.
 */
export const jsonLine = (value: unknown): string =>
  `${JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  )}\n`;

/** The watch for programs: one JSON object a line. README.md has the table of types. */
export function jsonView(output: Output): View {
  const say = (value: unknown) => void output.write(jsonLine(value));
  let told = "";
  return {
    change(job, { resumed }) {
      if (!resumed) say({ type: "snapshot", job });
    },
    event: (event, { cursor }) => say({ type: "event", cursor, event }),
    connection({ state, transport, cause, retryAt, stale }) {
      if (state === "ended" || state === "failed") return; // `end` and `error` say it
      const change = {
        type: "connection",
        state,
        transport,
        cause: cause && { code: cause.code, message: cause.message },
        retryAt: retryAt === null ? null : new Date(retryAt).toISOString(),
        stale,
      };
      const text = JSON.stringify(change);
      if (text !== told) say(change);
      told = text;
    },
    done: (job) => say({ type: "end", job }),
    failed: ({ code, message }) => say({ type: "error", code, message }),
    close() {},
  };
}
