import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ClientErrorCode, MonitorClientError } from "../../packages/client/src/errors.js";
import {
  FIRST_BACKOFF_MS,
  FIRST_CLIMB_MS,
  idleLine,
  type Line,
  type LineEvent,
  type LineState,
  LONGEST_BACKOFF_MS,
  LONGEST_MS,
  next,
  ROUNDS,
  table,
} from "../../packages/client/src/line.js";

type EventType = LineEvent["type"];

const errorOf = (code: ClientErrorCode, retryable = false, retryAfterMs?: number) =>
  new MonitorClientError(code, code, { retryable, retryAfterMs });

const cut = errorOf("unreachable", true);
const strange = errorOf("bad_answer");
const draining = errorOf("draining", true, 2_000);
const refused = errorOf("unauthorized");
/** Not of the network: the server's own words, or the page's. */
const FINAL = (["unauthorized", "forbidden", "bad_request", "unsupported_version"] as const).map(
  (code) => errorOf(code),
);

const want: LineEvent = { type: "want" };
const rest: LineEvent = { type: "rest" };
const timer: LineEvent = { type: "timer" };
const wake: LineEvent = { type: "wake" };
const up = (rung: number, chance = 0): LineEvent => ({ type: "up", rung, chance });
const down = (rung: number, error: MonitorClientError, chance = 0): LineEvent => ({
  type: "down",
  rung,
  error,
  chance,
});

const told = (line: Line, ...events: LineEvent[]): Line => events.reduce(next, line);

const idle = idleLine(3);
const connecting = told(idle, want);
const live = told(connecting, up(0));
const lowest = told(connecting, down(0, cut), down(1, cut), up(2));
const climbing = told(lowest, timer);
const waiting = told(live, down(0, cut, 0.5));

const SAME = "same";
type Sentence = readonly [
  says: string,
  line: Line,
  event: LineEvent,
  becomes: object | typeof SAME,
];

/** A sentence, or more, for each cell of the table. */
const CELLS: { readonly [S in LineState]: { readonly [E in EventType]: readonly Sentence[] } } = {
  idle: {
    want: [
      ["what is wanted is connected", idle, want, { state: "connecting", rung: 0 }],
      [
        "a line that was given up begins anew",
        told(connecting, down(0, refused)),
        want,
        { state: "connecting", rung: 0, cause: null },
      ],
      [
        "the rung that worked is the first to be tried",
        told(lowest, rest),
        want,
        { state: "connecting", rung: 2, proven: 2 },
      ],
    ],
    rest: [["there is nothing to end", idle, rest, SAME]],
    up: [["a late word of a link is nothing", idle, up(0), SAME]],
    down: [["a late failure of a link is nothing", idle, down(0, cut), SAME]],
    timer: [["a late timer is nothing", idle, timer, SAME]],
    wake: [["nothing is tried that nobody wants", idle, wake, SAME]],
  },
  connecting: {
    want: [["one more watch opens no other link", connecting, want, SAME]],
    rest: [
      ["nobody waits for it", connecting, rest, idle],
      [
        "the rung that worked is kept in mind, not the one that was tried",
        told(lowest, timer, down(2, cut)),
        rest,
        { state: "idle", rung: 0, proven: 2, cause: null },
      ],
    ],
    up: [
      [
        "it works: live, and nothing better to climb to",
        connecting,
        up(0),
        { state: "live", rung: 0, proven: 0, timer: null, cause: null },
      ],
      [
        "over a lower rung a timer runs until the climb",
        told(connecting, down(0, cut)),
        up(1, 0.5),
        { state: "live", rung: 1, proven: 1, timer: { ms: FIRST_CLIMB_MS * 0.75 }, cause: null },
      ],
    ],
    down: [
      [
        "the next rung is tried at once",
        connecting,
        down(0, cut),
        { state: "connecting", rung: 1, cause: cut, timer: null, waits: 0 },
      ],
      [
        "so it is if a stranger answers",
        connecting,
        down(0, strange),
        { state: "connecting", rung: 1, cause: strange },
      ],
      [
        "after the last rung it waits, and begins with the best one",
        told(connecting, down(0, cut), down(1, cut)),
        down(2, cut, 0.5),
        { state: "waiting", rung: 0, timer: { ms: FIRST_BACKOFF_MS / 2 }, cause: cut, waits: 1 },
      ],
      [
        "a rung that has worked gets a second chance",
        told(waiting, timer),
        down(0, cut),
        { state: "waiting", rung: 0, failures: 1 },
      ],
      [
        "and no third",
        told(waiting, timer, down(0, cut), timer),
        down(0, cut),
        { state: "connecting", rung: 1, failures: 0 },
      ],
      [
        "nor a second one if a stranger answers",
        told(waiting, timer),
        down(0, strange),
        { state: "connecting", rung: 1 },
      ],
      [
        "a server that asks for time gets it, on the same rung",
        connecting,
        down(0, draining),
        { state: "waiting", rung: 0, timer: { ms: 2_000 }, cause: draining },
      ],
      ["what is final is given up", connecting, down(0, refused), { ...idle, cause: refused }],
    ],
    timer: [["a late timer is nothing", connecting, timer, SAME]],
    wake: [["it is being tried already", connecting, wake, SAME]],
  },
  live: {
    want: [["one more watch opens no other link", live, want, SAME]],
    rest: [
      ["the link is not kept", live, rest, { ...idle, proven: 0 }],
      ["nor the timer", lowest, rest, { state: "idle", rung: 2, proven: 2, timer: null }],
    ],
    up: [["each further word changes nothing", live, up(0), SAME]],
    down: [
      [
        "it waits before it comes back",
        live,
        down(0, cut, 0.5),
        { state: "waiting", rung: 0, cause: cut, timer: { ms: FIRST_BACKOFF_MS / 2 } },
      ],
      [
        "even if a stranger answers: a proxy may have come up before its server",
        live,
        down(0, strange),
        { state: "waiting", rung: 0, cause: strange },
      ],
      ["what is final is given up", live, down(0, refused), { ...idle, cause: refused }],
    ],
    timer: [
      [
        "the best rung is tried beside the one that works",
        lowest,
        timer,
        { state: "climbing", rung: 2, trying: 0, timer: null },
      ],
      ["from the best rung there is nothing to climb to", live, timer, SAME],
    ],
    wake: [
      ["another network may let more through", lowest, wake, { state: "climbing", trying: 0 }],
      ["it works as well as it can", live, wake, SAME],
    ],
  },
  climbing: {
    want: [["one more watch opens no other link", climbing, want, SAME]],
    rest: [["neither link is kept", climbing, rest, { ...idle, rung: 2, proven: 2 }]],
    up: [
      [
        "the better link works, and is the one that is used",
        climbing,
        up(0),
        { state: "live", rung: 0, trying: null, proven: 0, timer: null, climbs: 0 },
      ],
      ["the other one still works", climbing, up(2), SAME],
    ],
    down: [
      [
        "the better link fails: the next better one",
        climbing,
        down(0, cut),
        { state: "climbing", rung: 2, trying: 1 },
      ],
      [
        "none is left: it stays where it is, and waits twice as long for the next climb",
        told(climbing, down(0, cut)),
        down(1, cut),
        { state: "live", rung: 2, trying: null, climbs: 1, timer: { ms: FIRST_CLIMB_MS } },
      ],
      [
        "a refusal of the better link is no reason to give up the one that works",
        told(climbing, down(0, refused)),
        down(1, refused),
        { state: "live", rung: 2, trying: null, cause: null },
      ],
      [
        "the link that worked is lost: the better one is what there is",
        climbing,
        down(2, cut),
        { state: "connecting", rung: 0, trying: null, proven: 2, cause: cut },
      ],
      [
        "what is final for the link that worked is final",
        climbing,
        down(2, refused),
        { ...idle, cause: refused },
      ],
    ],
    timer: [["a late timer is nothing", climbing, timer, SAME]],
    wake: [["it is being tried already", climbing, wake, SAME]],
  },
  waiting: {
    want: [["one more watch does not hurry it", waiting, want, SAME]],
    rest: [["nobody waits for it", waiting, rest, { ...idle, proven: 0 }]],
    up: [["a late word of a link is nothing", waiting, up(0), SAME]],
    down: [["a late failure of a link is nothing", waiting, down(0, refused), SAME]],
    timer: [
      ["the next try", waiting, timer, { state: "connecting", rung: 0, timer: null, cause: cut }],
    ],
    wake: [
      ["the next try is now", waiting, wake, { state: "connecting", rung: 0, timer: null }],
      ["unless the server has asked for time", told(live, down(0, draining)), wake, SAME],
    ],
  },
};

const keys = <K extends string>(record: Readonly<Record<K, unknown>>) => Object.keys(record) as K[];
const STATES = keys(table);
const EVENTS = keys(table.idle);

describe("the table", () => {
  test("has a cell for each of six events in each of five states, and each has its sentence", () => {
    expect(STATES).toEqual(["idle", "connecting", "live", "climbing", "waiting"]);
    for (const state of STATES) {
      expect(keys(table[state])).toEqual(["want", "rest", "up", "down", "timer", "wake"]);
      for (const event of EVENTS) {
        expect(table[state][event]).toBeTypeOf("function");
        expect(CELLS[state][event].length).toBeGreaterThan(0);
      }
    }
  });

  for (const state of STATES) {
    describe(state, () => {
      for (const type of EVENTS) {
        test.each(CELLS[state][type])(`${type}: %s`, (_, line, event, becomes) => {
          expect([line.state, event.type]).toEqual([state, type]);
          const then = next(line, event);
          if (becomes === SAME) expect(then).toBe(line);
          else expect(then).toMatchObject(becomes);
        });
      }
    });
  }
});

const RUNS = { seed: 20_260_501, numRuns: 500 };

const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const hint = fc.option(fc.integer({ min: 1, max: 2 * LONGEST_MS }), { nil: undefined });
const anyError = fc.oneof(
  { weight: 4, arbitrary: hint.map((ms) => errorOf("unreachable", true, ms)) },
  { weight: 2, arbitrary: fc.constant(strange) },
  { weight: 2, arbitrary: hint.map((ms) => errorOf("draining", true, ms)) },
  { weight: 1, arbitrary: fc.constant(errorOf("token_failed", true)) },
  { weight: 1, arbitrary: fc.constantFrom(...FINAL) },
);

/** What a driver may say over so many rungs, in any order. */
const anyEventOver = (rungs: number): fc.Arbitrary<LineEvent> => {
  const rung = fc.nat({ max: rungs - 1 });
  return fc.oneof(
    { weight: 3, arbitrary: fc.constant(want) },
    { weight: 1, arbitrary: fc.constant(rest) },
    { weight: 4, arbitrary: fc.constant(timer) },
    { weight: 1, arbitrary: fc.constant(wake) },
    { weight: 4, arbitrary: fc.tuple(rung, chance).map((args) => up(...args)) },
    { weight: 6, arbitrary: fc.tuple(rung, anyError, chance).map((args) => down(...args)) },
  );
};

const RUNGS = fc.integer({ min: 1, max: 3 });
/** How many rungs there are, and what happens. */
const anyHistory = RUNGS.chain((rungs) =>
  fc.tuple(fc.constant(rungs), fc.array(anyEventOver(rungs), { maxLength: 60 })),
);

/** For every step of any history. */
const always = (law: (then: Line, event: LineEvent, before: Line) => void) =>
  fc.assert(
    fc.property(anyHistory, ([rungs, events]) => {
      events.reduce((before, event) => {
        const then = next(before, event);
        law(then, event, before);
        return then;
      }, idleLine(rungs));
    }),
    RUNS,
  );

/** Fails every try of a round over all rungs, until the line waits or has given up. */
function failRound(from: Line, error: MonitorClientError): Line {
  let line = from;
  while (line.state === "connecting") line = next(line, down(line.rung, error));
  return line;
}

/** The line after the timer, and a link that works. */
function recover(from: Line): Line {
  const line = told(from, want, timer);
  return next(line, up(line.trying ?? line.rung));
}

describe("after any history", () => {
  test("it is pure: nothing is changed in place, and the same comes of the same", () => {
    always((then, event, before) => {
      Object.freeze(before);
      Object.freeze(event);
      expect(next(before, event)).toEqual(then);
    });
  });

  test("it is the same object exactly when nothing has changed", () => {
    always((then, _event, before) => {
      // Another timer that happens to be as long is another timer.
      const isSame = then.timer === before.timer && JSON.stringify(then) === JSON.stringify(before);
      if (then !== before) expect(isSame && then.cause === before.cause).toBe(false);
    });
  });

  test("its rungs are there, and a better one is tried exactly while climbing", () => {
    always(({ state, rungs, rung, trying, proven }) => {
      expect(rung).toBeGreaterThanOrEqual(0);
      expect(rung).toBeLessThan(rungs);
      expect(trying !== null).toBe(state === "climbing");
      if (trying !== null) expect(trying >= 0 && trying < rung).toBe(true);
      if (proven !== null) expect(proven >= 0 && proven < rungs).toBe(true);
    });
  });

  test("a timer is set exactly while it waits, or is live below the best rung", () => {
    always(({ state, rung, timer: set }) => {
      expect(set !== null).toBe(state === "waiting" || (state === "live" && rung > 0));
    });
  });

  test("a cause is known while it waits, and none is while it works", () => {
    always(({ state, cause }) => {
      if (state === "waiting") expect(cause).not.toBe(null);
      if (state === "live" || state === "climbing") expect(cause).toBe(null);
    });
  });

  test("no wait is longer than the longest backoff and what the server asked, and that is capped", () => {
    always(({ state, timer: set, cause }) => {
      if (state !== "waiting") return;
      const asked = Math.min(LONGEST_MS, cause?.retryAfterMs ?? 0);
      expect(set?.ms).toBeGreaterThanOrEqual(asked);
      expect(set?.ms).toBeLessThanOrEqual(asked + LONGEST_BACKOFF_MS);
    });
  });

  test("who asked for time is not hurried by a wake", () => {
    always((then) => {
      if (then.state === "waiting" && then.cause?.retryAfterMs) expect(next(then, wake)).toBe(then);
    });
  });

  test("once live it is never given up for the network", () => {
    always((then, event, before) => {
      if (event.type !== "down" || before.proven === null) return;
      if (event.error.code === "unreachable" && before.state !== "idle") {
        expect(then.state).not.toBe("idle");
      }
    });
  });

  test("a final word of the link in use is given up for, whatever the state", () => {
    always((then) => {
      if (then.state === "idle" || then.state === "waiting") return;
      for (const error of FINAL) {
        expect(next(then, down(then.rung, error))).toMatchObject({ state: "idle", cause: error });
      }
    });
  });

  test("tries that work lead back to the best rung: from live with one climb", () => {
    fc.assert(
      fc.property(anyHistory, ([rungs, events]) => {
        const line = told(idleLine(rungs), ...events);
        expect(recover(recover(line))).toMatchObject({ state: "live", rung: 0, cause: null });
      }),
      RUNS,
    );
  });
});

describe("waits", () => {
  test("are of any length up to a ceiling that doubles: full jitter", () => {
    const property = fc.property(RUNGS, fc.nat({ max: 12 }), chance, hint, (rungs, n, dice, ms) => {
      let line = told(idleLine(rungs), want, up(0));
      for (let i = 0; i < n; i += 1) line = told(line, down(line.rung, draining), timer);
      expect(line.waits).toBe(n);
      const { timer: set } = next(line, down(line.rung, errorOf("draining", true, ms), dice));
      const ceiling = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** n);
      expect(set?.ms).toBeCloseTo(Math.min(LONGEST_MS, ms ?? 0) + dice * ceiling);
    });
    fc.assert(property, RUNS);
  });

  test("begin anew when it has worked", () => {
    let line = live;
    for (let i = 0; i < 9; i += 1) line = told(line, down(line.rung, draining), timer);
    expect(told(line, up(0), down(0, cut, 0.5)).timer).toEqual({ ms: FIRST_BACKOFF_MS / 2 });
  });
});

describe("climbs", () => {
  test("are tried later each time, up to the longest, and half of it is by chance", () => {
    const property = fc.property(fc.nat({ max: 10 }), chance, (n, dice) => {
      let line = told(idleLine(2), want, down(0, cut), up(1, dice));
      for (let i = 0; i < n; i += 1) line = told(line, timer, down(0, cut, dice));
      const longest = Math.min(LONGEST_MS, FIRST_CLIMB_MS * 2 ** n);
      expect(line).toMatchObject({ state: "live", rung: 1, climbs: n });
      expect(line.timer?.ms).toBeGreaterThanOrEqual(longest / 2);
      expect(line.timer?.ms).toBeLessThanOrEqual(longest);
    });
    fc.assert(property, RUNS);
  });

  test("that failed are not forgotten when the line is lost and comes back on its rung", () => {
    const line = told(lowest, timer, down(1, cut), down(2, cut), timer, up(2));
    expect(line).toMatchObject({
      state: "live",
      rung: 2,
      climbs: 1,
      timer: { ms: FIRST_CLIMB_MS },
    });
  });
});

describe.each([1, 2, 3])("a line of %i rungs that never worked", (rungs) => {
  const begun = told(idleLine(rungs), want);

  test("is given up at once if strangers answer on every rung", () => {
    expect(failRound(begun, strange)).toMatchObject({ state: "idle", cause: strange });
  });

  test("is given up after so many rounds in which nobody answered", () => {
    let line = begun;
    for (let round = 1; round < ROUNDS; round += 1) {
      line = failRound(line, cut);
      expect(line).toMatchObject({ state: "waiting", rung: 0, waits: round });
      line = next(line, timer);
    }
    expect(failRound(line, cut)).toMatchObject({ state: "idle", cause: cut });
  });

  test("is not given up any more once the server itself has asked for patience", () => {
    let line = begun;
    for (let i = 0; i < ROUNDS; i += 1) line = told(line, down(line.rung, draining), timer);
    expect(failRound(line, cut)).toMatchObject({ state: "waiting", cause: cut });
  });
});

test("a line that worked tries all rungs for ever while nobody answers", () => {
  let line = told(live, down(0, cut));
  const tried = new Set<number>();
  for (let step = 0; step < 200; step += 1) {
    tried.add(line.rung);
    line = line.state === "waiting" ? next(line, timer) : next(line, down(line.rung, cut));
    expect(["waiting", "connecting"]).toContain(line.state);
  }
  expect([...tried]).toEqual([0, 1, 2]);
});
