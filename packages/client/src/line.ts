import type { MonitorClientError } from "./errors.js";

/**
 * The line to the server, as a pure state machine. All watches share one line; the transports are
 * the rungs of a ladder, best first. What happens is an event, `table` has a cell for each event in
 * each state. The driver (`connector.ts`) keeps the links and the timer that a line speaks of.
 *
 * - `idle`: nothing is watched. With a `cause`: given up for it; whoever watches next begins anew.
 * - `connecting`: a link over `rung` is open, and has not yet proved that it works.
 * - `live`: it works. On a lower rung, a timer runs until a better one is tried.
 * - `climbing`: it works, and beside it there is a link over the better rung `trying`.
 * - `waiting`: for the next try.
 */
export type LineState = "idle" | "connecting" | "live" | "climbing" | "waiting";

export interface Line {
  readonly state: LineState;
  /** How many transports there are. */
  readonly rungs: number;
  /** The one that is used, or tried: 0 is the best. */
  readonly rung: number;
  /** The better rung that is tried while climbing. */
  readonly trying: number | null;
  /** The rung that worked last, which is not given up for one failure; null: none ever has. */
  readonly proven: number | null;
  /** A timer to set: until the next try, or the next climb. Another object is another timer. */
  readonly timer: { readonly ms: number } | null;
  /** Why it is not live; null while it is. */
  readonly cause: MonitorClientError | null;
  /** Tries over this rung that failed, since it last worked. */
  readonly failures: number;
  /** Waits since it was last live. */
  readonly waits: number;
  /** Climbs that failed, one after another. */
  readonly climbs: number;
}

/** `rung` is that of the link that speaks; `chance`, from 0 to below 1, is the dice. */
export type LineEvent =
  /** Something is watched. */
  | { type: "want" }
  /** Nothing is watched any more. */
  | { type: "rest" }
  /** A link works: the server has said something that makes sense. */
  | { type: "up"; rung: number; chance: number }
  /** A link does not work, or not any more. */
  | { type: "down"; rung: number; error: MonitorClientError; chance: number }
  /** The timer is over. */
  | { type: "timer" }
  /** Another try may succeed: the network is back, or the page is looked at again. */
  | { type: "wake" };

type EventOf<E extends LineEvent["type"]> = Extract<LineEvent, { type: E }>;
type Cell<E extends LineEvent["type"]> = (line: Line, event: EventOf<E>) => Line;
type Row = { readonly [E in LineEvent["type"]]: Cell<E> };

export const FIRST_BACKOFF_MS = 500;
export const LONGEST_BACKOFF_MS = 20_000;
export const FIRST_CLIMB_MS = 30_000;
/** Of a climb, and of a wait that a server asks for. */
export const LONGEST_MS = 600_000;
/** Rounds over all rungs, for a line that never was live, until it is given up. */
export const ROUNDS = 6;

export const idleLine = (rungs: number): Line => ({
  state: "idle",
  rungs,
  rung: 0,
  trying: null,
  proven: null,
  timer: null,
  cause: null,
  failures: 0,
  waits: 0,
  climbs: 0,
});

const stay = (line: Line): Line => line;

/** The same rung again, or another one. */
const connect = (line: Line, rung = line.rung): Line => ({
  ...line,
  state: "connecting",
  rung,
  trying: null,
  timer: null,
});

const begin = (line: Line): Line => connect({ ...line, cause: null });

const rest = ({ rungs, rung, proven }: Line): Line => ({
  ...idleLine(rungs),
  rung: rung === proven ? rung : 0,
  proven,
});

const giveUp = ({ rungs }: Line, cause: MonitorClientError): Line => ({
  ...idleLine(rungs),
  cause,
});

/** Live over a rung. A timer runs until a better one is tried, twice as long after each climb that failed. */
function live(line: Line, rung: number, climbs: number, chance: number): Line {
  const ms = Math.min(LONGEST_MS, FIRST_CLIMB_MS * 2 ** climbs) * (0.5 + chance / 2);
  const timer = rung ? { ms } : null;
  const well = { proven: rung, cause: null, failures: 0, waits: 0 };
  return { ...line, ...well, state: "live", rung, trying: null, timer, climbs };
}

/** Full jitter: anything up to a ceiling that doubles; what the server asks for comes on top. */
export const backoff = (
  { retryAfterMs = 0 }: MonitorClientError,
  times: number,
  chance: number,
  longest = LONGEST_BACKOFF_MS,
): number =>
  Math.min(LONGEST_MS, retryAfterMs) + Math.min(longest, FIRST_BACKOFF_MS * 2 ** times) * chance;

function wait(line: Line, cause: MonitorClientError, chance: number): Line {
  const timer = { ms: backoff(cause, line.waits, chance) };
  return { ...line, state: "waiting", trying: null, timer, cause, waits: line.waits + 1 };
}

/** Nobody answered, or somebody else: for anything else the server itself has spoken, and the rung is fine. */
const isEvidence = ({ code }: MonitorClientError): boolean =>
  code === "unreachable" || code === "bad_answer";

/** A link that worked is lost. */
const lose: Cell<"down"> = (line, { error, chance }) =>
  error.retryable || isEvidence(error) ? wait(line, error, chance) : giveUp(line, error);

/** A link never worked: the same rung again, the next one, or all of them later. */
function descend(line: Line, event: EventOf<"down">): Line {
  const { error, chance } = event;
  if (!isEvidence(error)) return lose({ ...line, proven: line.rung }, event);
  const tried = { ...line, failures: line.failures + 1, cause: error };
  const trusted = line.rung === line.proven && error.code === "unreachable";
  if (trusted && line.failures === 0) return wait(tried, error, chance);
  if (line.rung + 1 < line.rungs) return connect({ ...tried, failures: 0 }, line.rung + 1);
  // Over the last rung, which any proxy lets through, somebody answers who is no monitor.
  const hopeless = error.code === "bad_answer" || line.waits + 1 >= ROUNDS;
  if (line.proven === null && hopeless) return giveUp(tried, error);
  return wait({ ...tried, rung: 0, failures: 0 }, error, chance);
}

const climb = (line: Line): Line =>
  line.rung === 0 ? line : { ...line, state: "climbing", trying: 0, timer: null };

/** The better link works. */
const arrive: Cell<"up"> = (line, { rung, chance }) =>
  rung === line.trying ? live(line, rung, 0, chance) : line;

/** The better link does not work: the next one, or not now. The other is lost: the better it is, then. */
function slip(line: Line, event: EventOf<"down">): Line {
  const { rung, trying, climbs } = line;
  if (event.rung === rung) {
    const lost = lose(line, event);
    return trying === null || lost.state === "idle" ? lost : connect(lost, trying);
  }
  if (event.rung + 1 < rung) return { ...line, trying: event.rung + 1 };
  return live(line, rung, climbs + 1, event.chance);
}

/** A wait that is cut short does not count. */
const unlessAsked = (line: Line): Line =>
  line.cause?.retryAfterMs ? line : connect({ ...line, waits: line.waits - 1 });

/** What each event does in each state. */
export const table: { readonly [S in LineState]: Row } = {
  idle: {
    want: begin,
    rest: stay,
    up: stay,
    down: stay,
    timer: stay,
    wake: stay,
  },
  connecting: {
    want: stay,
    rest,
    up: (line, { rung, chance }) => live(line, rung, line.climbs, chance),
    down: descend,
    timer: stay,
    wake: stay,
  },
  live: {
    want: stay,
    rest,
    up: stay,
    down: lose,
    timer: climb,
    wake: climb,
  },
  climbing: {
    want: stay,
    rest,
    up: arrive,
    down: slip,
    timer: stay,
    wake: stay,
  },
  waiting: {
    want: stay,
    rest,
    up: stay,
    down: stay,
    timer: (line) => connect(line),
    wake: unlessAsked,
  },
};

/** The line after an event; the same object when nothing changes. Pure and total. */
export const next = (line: Line, event: LineEvent): Line =>
  (table[line.state][event.type] as Cell<LineEvent["type"]>)(line, event);
