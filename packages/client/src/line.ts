import type { MonitorClientError } from "./errors.js";

/**
 * The line to the server, as a pure state machine. All watches share one line; the transports are
 * the rungs of a ladder, best first. What happens is an event, `table` has a cell for each event in
 * each state, and the driver (`connector.ts`) does what the difference of two lines says.
 *
 * - `idle`: nothing is watched.
 * - `connecting`: a link over `rung` is being opened and has not yet proved that it works.
 * - `live`: it works. On a lower rung, a timer runs until a better one is tried.
 * - `climbing`: it works, and beside it a link over the better rung `trying` is being opened.
 * - `waiting`: for the next try.
 * - `offline`: the same, but the platform says that there is no network: until it says otherwise.
 * - `failed`: given up. Whoever watches from now on begins anew.
 * - `closed`: by its owner.
 */
export type LineState =
  | "idle"
  | "connecting"
  | "live"
  | "climbing"
  | "waiting"
  | "offline"
  | "failed"
  | "closed";

export interface Line {
  readonly state: LineState;
  /** How many transports there are. */
  readonly rungs: number;
  /** The one that is used, or tried: 0 is the best. */
  readonly rung: number;
  /** Counts the links: another number is another link. */
  readonly attempt: number;
  /** The better rung that is tried while climbing. */
  readonly trying: number | null;
  /** A timer to set: until the next try, or until the next climb. Another object is another timer. */
  readonly timer: { readonly ms: number } | null;
  /** Why it is not live; null while it is. */
  readonly cause: MonitorClientError | null;
  /** The rungs that have worked once, and are not given up for one failure. */
  readonly proven: readonly number[];
  /** Tries over this rung that failed, one after another. */
  readonly failures: number;
  /** Waits since it was last live. */
  readonly waits: number;
  /** Climbs that failed, one after another. */
  readonly climbs: number;
  /** The wait is the server's word: nothing shortens it. */
  readonly hinted: boolean;
}

/** `chance` is a number from 0 to below 1: the machine itself throws no dice. */
export type LineEvent =
  /** Something is watched. */
  | { type: "want" }
  /** Nothing is watched any more. */
  | { type: "rest" }
  /** The link works: the server has said something that makes sense. */
  | { type: "up"; chance: number }
  /** The link does not work, or not any more. */
  | { type: "down"; error: MonitorClientError; chance: number }
  /** The better link works. */
  | { type: "climbed"; chance: number }
  /** The better link does not work. */
  | { type: "slipped"; chance: number }
  /** The timer is over. */
  | { type: "timer" }
  | { type: "online" }
  | { type: "offline" }
  /** The page is looked at again. */
  | { type: "wake" }
  | { type: "close" };

type EventType = LineEvent["type"];
type EventOf<E extends EventType> = Extract<LineEvent, { type: E }>;
type Cell<E extends EventType> = (line: Line, event: EventOf<E>) => Line;

export const FIRST_BACKOFF_MS = 500;
export const LONGEST_BACKOFF_MS = 20_000;
export const FIRST_CLIMB_MS = 30_000;
export const LONGEST_CLIMB_MS = 600_000;
/** The longest wait that a server may ask for. */
export const LONGEST_HINT_MS = 600_000;
/** Tries over a rung that has worked before, until the next one is tried. */
export const TRIES = 2;
/** Rounds over all rungs, for a line that never was live, until it is given up. */
export const ROUNDS = 6;

export const idleLine = (rungs: number): Line => ({
  state: "idle",
  rungs,
  rung: 0,
  attempt: 0,
  trying: null,
  timer: null,
  cause: null,
  proven: [],
  failures: 0,
  waits: 0,
  climbs: 0,
  hinted: false,
});

const stay = (line: Line): Line => line;

/** Opens a link, over the same rung or another. */
const connect = (line: Line, rung = line.rung): Line => ({
  ...line,
  state: "connecting",
  rung,
  attempt: line.attempt + 1,
  trying: null,
  timer: null,
  hinted: false,
});

const unlessHinted = (line: Line): Line => (line.hinted ? line : connect(line));

/** Until a better rung is tried; never, from the best. */
function climbTimer({ rung, climbs }: Line, chance: number): Line["timer"] {
  if (rung === 0) return null;
  const ms = Math.min(LONGEST_CLIMB_MS, FIRST_CLIMB_MS * 2 ** climbs);
  return { ms: ms * (0.5 + chance / 2) };
}

function live(line: Line, rung: number, chance: number): Line {
  const proven = line.proven.includes(rung) ? line.proven : [...line.proven, rung];
  const now: Line = {
    ...line,
    state: "live",
    rung,
    proven,
    trying: null,
    cause: null,
    failures: 0,
    waits: 0,
    hinted: false,
  };
  return { ...now, timer: climbTimer(now, chance) };
}

/** Full jitter: anything up to a ceiling that doubles; what the server asks for comes on top. */
function wait(line: Line, error: MonitorClientError, chance: number): Line {
  const ceiling = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** line.waits);
  const hint = Math.min(LONGEST_HINT_MS, error.retryAfterMs ?? 0);
  return {
    ...line,
    state: "waiting",
    trying: null,
    cause: error,
    waits: line.waits + 1,
    timer: { ms: hint + ceiling * chance },
    hinted: hint > 0,
  };
}

const fail = (line: Line, cause: MonitorClientError): Line => ({
  ...line,
  state: "failed",
  trying: null,
  timer: null,
  cause,
});

/** Nobody answered, or somebody else: for anything else the server itself has spoken, and the rung is fine. */
const isEvidence = ({ code }: MonitorClientError): boolean =>
  code === "unreachable" || code === "bad_answer";

/** A link that never worked: the same rung again, the next one, or all of them later. */
function descend(line: Line, { error, chance }: EventOf<"down">): Line {
  if (!isEvidence(error)) return error.retryable ? wait(line, error, chance) : fail(line, error);
  const tried = { ...line, failures: line.failures + 1, cause: error };
  const trusted = line.proven.includes(line.rung) && error.code !== "bad_answer";
  if (trusted && tried.failures < TRIES) return wait(tried, error, chance);
  if (line.rung + 1 < line.rungs) return connect({ ...tried, failures: 0 }, line.rung + 1);
  const neverLive = line.proven.length === 0;
  // Somebody answers over the last rung, which any proxy lets through, and is no monitor.
  const hopeless = error.code === "bad_answer" || line.waits + 1 >= ROUNDS;
  if (neverLive && hopeless) return fail(tried, error);
  return wait({ ...tried, rung: 0, failures: 0 }, error, chance);
}

/** A link that worked: from the same rung on. */
const lose = (line: Line, { error, chance }: EventOf<"down">): Line =>
  error.retryable || isEvidence(error) ? wait(line, error, chance) : fail(line, error);

/** Without a network there is nothing to wait for but the network; some platforms err about it. */
const pause = (line: Line): Line => ({
  ...line,
  state: "offline",
  timer: { ms: LONGEST_BACKOFF_MS },
  hinted: false,
});

const rest = (line: Line): Line => ({
  ...idleLine(line.rungs),
  rung: line.proven.includes(line.rung) ? line.rung : 0,
  proven: line.proven,
  attempt: line.attempt,
});

const close = (line: Line): Line => ({ ...rest(line), state: "closed" });

const climb = (line: Line): Line =>
  line.rung === 0 ? line : { ...line, state: "climbing", trying: 0, timer: null };

/** The next better rung, or not now. */
function slip(line: Line, { chance }: EventOf<"slipped">): Line {
  const next = (line.trying ?? 0) + 1;
  if (next < line.rung) return { ...line, trying: next };
  const back: Line = { ...line, state: "live", trying: null, climbs: line.climbs + 1 };
  return { ...back, timer: climbTimer(back, chance) };
}

const climbed = (line: Line, { chance }: EventOf<"climbed">): Line =>
  live({ ...line, climbs: 0, attempt: line.attempt + 1 }, line.trying ?? 0, chance);

/** The link is lost while a better one is being opened: that one it is, then. */
const lean = (line: Line, event: EventOf<"down">): Line =>
  lose(line, event).state === "failed"
    ? fail(line, event.error)
    : { ...connect(line, line.trying ?? 0), cause: event.error };

const up = (line: Line, { chance }: EventOf<"up">): Line => live(line, line.rung, chance);

type Row = { readonly [E in EventType]: Cell<E> };

/** What each event does in each state. */
export const table: { readonly [S in LineState]: Row } = {
  idle: {
    want: (line) => connect(line),
    rest: stay,
    up: stay,
    down: stay,
    climbed: stay,
    slipped: stay,
    timer: stay,
    online: stay,
    offline: stay,
    wake: stay,
    close,
  },
  connecting: {
    want: stay,
    rest,
    up,
    down: descend,
    climbed: stay,
    slipped: stay,
    timer: stay,
    online: stay,
    offline: pause,
    wake: stay,
    close,
  },
  live: {
    want: stay,
    rest,
    up: stay,
    down: lose,
    climbed: stay,
    slipped: stay,
    timer: climb,
    online: (line) => climb({ ...line, climbs: 0 }),
    offline: stay, // the driver asks the link
    wake: stay, // likewise
    close,
  },
  climbing: {
    want: stay,
    rest,
    up: stay,
    down: lean,
    climbed,
    slipped: slip,
    timer: stay,
    online: stay,
    offline: stay,
    wake: stay,
    close,
  },
  waiting: {
    want: stay,
    rest,
    up: stay,
    down: stay,
    climbed: stay,
    slipped: stay,
    timer: (line) => connect(line),
    online: unlessHinted,
    offline: pause,
    wake: unlessHinted,
    close,
  },
  offline: {
    want: stay,
    rest,
    up: stay,
    down: stay,
    climbed: stay,
    slipped: stay,
    timer: (line) => connect(line),
    online: (line) => connect({ ...line, waits: 0 }),
    offline: stay,
    wake: (line) => connect(line),
    close,
  },
  failed: {
    want: (line) => connect({ ...idleLine(line.rungs), attempt: line.attempt }),
    rest: stay,
    up: stay,
    down: stay,
    climbed: stay,
    slipped: stay,
    timer: stay,
    online: stay,
    offline: stay,
    wake: stay,
    close,
  },
  closed: {
    want: stay,
    rest: stay,
    up: stay,
    down: stay,
    climbed: stay,
    slipped: stay,
    timer: stay,
    online: stay,
    offline: stay,
    wake: stay,
    close: stay,
  },
};

/** The line after an event; the same object when nothing changes. Pure and total. */
export const next = (line: Line, event: LineEvent): Line =>
  (table[line.state][event.type] as Cell<EventType>)(line, event);
