import type { ErrorFrame, Frame } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";

/** One try to reach the server over one transport, until it is closed or down. */
export interface Link {
  /** Watches a job, from a cursor on. Of one that is watched already: begins anew. */
  watch(jobId: string, after: string | undefined): void;
  unwatch(jobId: string): void;
  /** The network may have changed: find out soon whether this still works. */
  check(): void;
  /** Nothing is heard of it afterwards. */
  close(): void;
}

/** What a link tells. */
export interface LinkListener {
  frame(frame: Frame): void;
  /** The server has nothing new, but it works. */
  up(): void;
  /** One job cannot be watched, says the server; the link goes on. */
  refused(jobId: string, error: MonitorClientError): void;
  /** It does not work, or not any more. `silent`: it looks open, but nothing comes. */
  down(error: MonitorClientError, silent?: boolean): void;
}

/** Until the first frame of a link, or of a job on it. */
export const ANSWER_MS = 10_000;
/** Until something comes of a link that was asked whether it lives. */
export const CHECK_MS = 5_000;

export interface Watchdog {
  heard(frame: Frame): void;
  /** Something has to come within `ms`. */
  expect(ms: number): void;
  /** The time may be over already: timers sleep with their machine. */
  look(): void;
  stop(): void;
}

/** Calls `onSilence` when nothing is heard for too long: at first `ANSWER_MS`, then two heartbeats. */
export function watchdog(
  { uptime, setTimeout }: Host,
  url: string,
  onSilence: (error: MonitorClientError) => void,
): Watchdog {
  /** Two heartbeats, as a snapshot says. Until then texts prove nothing: others, too, may send some with a type. */
  let silenceMs = 0;
  let until = 0;
  let stop = () => {};

  /** One timer for many frames: it goes off early, and is set again for what is left. */
  function look(): void {
    stop();
    const late = () => (until > uptime() ? look() : onSilence(unreachable(url, "silence")));
    stop = setTimeout(late, until - uptime());
  }

  function expect(ms: number): void {
    until = uptime() + ms;
    look();
  }

  expect(ANSWER_MS);
  return {
    heard(frame) {
      if (frame.type === "snapshot") {
        silenceMs = 2 * frame.heartbeatMs;
        expect(silenceMs); // it may be sooner than what was expected
      } else if (silenceMs) until = uptime() + silenceMs;
    },
    expect,
    look,
    stop: () => stop(),
  };
}

export const lost = (url: string, how: unknown): string =>
  `${url} does not answer (${how}): is the server up, and \`url\` right?`;

export const unreachable = (url: string, how: unknown, cause?: unknown): MonitorClientError =>
  new MonitorClientError("unreachable", lost(url, how), { retryable: true, cause });

/** What was thrown, if it is ours; anything else is of the network. */
export const asError = (thrown: unknown, url: string): MonitorClientError =>
  thrown instanceof MonitorClientError ? thrown : unreachable(url, thrown, thrown);

export const notAsMonitor = (url: string, what: unknown): string =>
  `${url} answers ${what}, and not as a workflow monitor: check \`url\`, \`paths\` and \`token\`.`;

const noMonitor = (url: string): MonitorClientError =>
  new MonitorClientError("bad_answer", notAsMonitor(url, "something"));

/** What a text is as JSON. Throws when it is none, or lacks the text or the list that it must have. */
export function parse<T>(text: unknown, url: string, key?: keyof T): T {
  try {
    const value: T = JSON.parse(text as string);
    if (!key || (value[key] as string).length >= 0) return value;
  } catch {
    // below
  }
  throw noMonitor(url);
}

export const errorOf = ({ code, message, ...details }: ErrorFrame): MonitorClientError =>
  new MonitorClientError(code, message, details);
