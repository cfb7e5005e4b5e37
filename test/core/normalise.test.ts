import {
  allowAll,
  createEngine,
  createWorkflowMonitor,
  isJobId,
  type PublishedEvent,
  STATUSES,
  type Status,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import { afterEach, describe, expect, test } from "vitest";
import type {
  NormalJobEvent,
  NormalPlanEvent,
  NormalStageEvent,
} from "../../packages/core/src/events.js";
import { type NormaliseContext, normalise } from "../../packages/core/src/normalise.js";

const NOW = Date.parse("2026-01-01T00:00:00.000Z");
const CONTEXT: NormaliseContext = { now: NOW, maxStages: 5_000 };
const REFUSED = expect.objectContaining({ name: "WorkflowMonitorError", code: "refused" });

type Fields = Record<string, unknown>;

const stageEvent = (fields: Fields, context = CONTEXT) =>
  normalise("stage", { jobId: "j", stage: "a", ...fields }, context);
const jobEvent = (fields: Fields, context = CONTEXT) =>
  normalise("job", { jobId: "j", ...fields }, context);
const planEvent = (fields: Fields, context = CONTEXT) =>
  normalise("plan", { jobId: "j", stages: [], ...fields }, context);
const planOf = (stage: Fields) => planEvent({ stages: [{ stage: "a", ...stage }] });

const asStage = (fields: Fields) => stageEvent(fields).event as NormalStageEvent;
const asJob = (fields: Fields) => jobEvent(fields).event as NormalJobEvent;
const asPlan = (fields: Fields) => planEvent(fields).event as NormalPlanEvent;

/** What is wrong with a field, in every type of event that has it. */
function refuses(work: () => unknown) {
  expect(work).toThrow(REFUSED);
}

/** An own key that an object literal cannot have. */
const withKey = (key: string, value: unknown = 1): Fields =>
  JSON.parse(`{${JSON.stringify(key)}: ${JSON.stringify(value)}}`) as Fields;

describe("what an event becomes", () => {
  test("[R17] an event is stamped with the time of arrival when it brings none", () => {
    expect(asStage({}).timestamp).toBe("2026-01-01T00:00:00.000Z");
  });

  test.each([
    ["a text in UTC", "2025-06-01T10:00:00.000Z", "2025-06-01T10:00:00.000Z"],
    ["a text without milliseconds", "2025-06-01T10:00:00Z", "2025-06-01T10:00:00.000Z"],
    ["a text with an offset", "2025-06-01T12:30:00+02:30", "2025-06-01T10:00:00.000Z"],
    ["milliseconds", 1_748_772_000_000, "2025-06-01T10:00:00.000Z"],
    ["a Date", new Date(1_748_772_000_000), "2025-06-01T10:00:00.000Z"],
    ["the beginning of 1970", 0, "1970-01-01T00:00:00.000Z"],
  ])("[R17] a timestamp may be %s", (_, timestamp, iso) => {
    expect(asStage({ timestamp }).timestamp).toBe(iso);
  });

  test.each([
    ["an invalid Date", new Date(Number.NaN)],
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["more than a Date can hold", 8.64e15 + 1],
    ["a text that is no time", "yesterday"],
    ["an empty text", ""],
    ["a bigint", 1n],
    ["an object", {}],
    ["an array", [1]],
    ["true", true],
    ["a symbol", Symbol("now")],
  ])("[R13] a timestamp that is %s is refused", (_, timestamp) => {
    refuses(() => stageEvent({ timestamp }));
    refuses(() => jobEvent({ timestamp }));
    refuses(() => planEvent({ timestamp }));
  });

  test("[R17] a timestamp 5 minutes ahead stays, one further ahead becomes now and is reported", () => {
    const edge = stageEvent({ timestamp: NOW + 300_000 });
    expect(edge.event.timestamp).toBe("2026-01-01T00:05:00.000Z");
    expect(edge.notices).toEqual([]);
    const over = stageEvent({ timestamp: NOW + 300_001 });
    expect(over.event.timestamp).toBe("2026-01-01T00:00:00.000Z");
    expect(over.notices).toHaveLength(1);
  });

  test("[R17] what the host changes in its objects later changes nothing", () => {
    const labels = { k: "v" };
    const metadata = { list: [1, { deep: true }] };
    const timestamp = new Date(NOW);
    const dependsOn = ["x"];
    const stages = [{ stage: "a", dependsOn }];
    const { event, text } = planEvent({ labels, metadata, stages, timestamp });
    const before = JSON.stringify(event);
    labels.k = "other";
    metadata.list.push(2);
    (metadata.list[1] as { deep: boolean }).deep = false;
    timestamp.setTime(0);
    dependsOn.push("y");
    stages.push({ stage: "b", dependsOn: [] });
    expect(JSON.stringify(event)).toBe(before);
    expect(text).toBe(before);
  });

  test("[R17] an event is frozen", () => {
    const event = asPlan({ stages: [{ stage: "a" }], labels: { k: "v" } });
    expect(Object.isFrozen(event)).toBe(true);
    expect(() => {
      event.timestamp = "x";
    }).toThrow(TypeError);
  });

  test("[R17] the text is the event as JSON, with its id and without its job's", () => {
    const { event, text, jobId } = stageEvent({ id: "e1", status: "running", message: "a\u2028b" });
    expect(jobId).toBe("j");
    expect(JSON.parse(text)).toEqual(event);
    expect(event).toEqual({
      type: "stage",
      timestamp: "2026-01-01T00:00:00.000Z",
      id: "e1",
      stage: "a",
      status: "running",
      message: "a\u2028b",
    });
  });

  test("[R17] a text has no line feed or carriage return in it, so that it is one line", () => {
    const { text } = stageEvent({ message: "a\nb\r\nc\r", metadata: { "x\ny": "\n" } });
    expect(text).not.toMatch(/[\n\r]/);
    expect((JSON.parse(text) as NormalStageEvent).message).toBe("a\nb\r\nc\r");
  });

  test("[R13] fields that no event has are left out", () => {
    expect(asStage({ foo: 1, labels: { k: "v" }, stages: [1] })).toEqual({
      type: "stage",
      timestamp: "2026-01-01T00:00:00.000Z",
      stage: "a",
    });
  });

  test("[R13] a planned stage has every field", () => {
    expect(asPlan({ stages: [{ stage: "a" }] }).stages).toEqual([
      { stage: "a", name: "a", weight: 1, dependsOn: [], allowFailure: false, maxAttempts: null },
    ]);
    const full = {
      stage: "b",
      name: "B",
      weight: 0.5,
      dependsOn: ["a"],
      allowFailure: true,
      maxAttempts: 3,
    };
    expect(asPlan({ stages: [full] }).stages).toEqual([full]);
  });

  test("[R13] undefined is as good as absent", () => {
    const event = asStage({
      status: undefined,
      attempt: undefined,
      run: undefined,
      reason: undefined,
      progress: undefined,
      message: undefined,
      error: undefined,
      metadata: undefined,
      timestamp: undefined,
      id: undefined,
    });
    expect(Object.values(event)).not.toContain(undefined);
    expect(Object.keys(event).sort()).toEqual(["stage", "timestamp", "type"]);
  });

  test("[R13] null clears, and stays null", () => {
    expect(
      asStage({ reason: null, message: null, error: null, metadata: null, progress: null }),
    ).toMatchObject({
      reason: null,
      message: null,
      error: null,
      metadata: null,
      progress: null,
    });
    expect(asJob({ labels: null, message: null, error: null })).toMatchObject({
      labels: null,
      message: null,
      error: null,
    });
    expect(asPlan({ name: null, labels: null, metadata: null })).toMatchObject({
      name: null,
      labels: null,
      metadata: null,
    });
  });
});

describe("the event itself", () => {
  test.each([
    ["undefined", undefined],
    ["null", null],
    ["a text", "stage"],
    ["a number", 1],
    ["a symbol", Symbol("x")],
    ["a bigint", 1n],
    ["an empty object", {}],
    ["an array", []],
  ])("[R13] %s is no event", (_, input) => {
    for (const type of ["stage", "job", "plan"]) refuses(() => normalise(type, input, CONTEXT));
  });

  test.each([
    "stages",
    "",
    "__proto__",
    "constructor",
    "toString",
    undefined,
    null,
    1,
    Symbol("x"),
    {},
  ])("[R13] a type that is no type is refused (%#)", (type) => {
    refuses(() => normalise(type, { jobId: "j", stage: "a", stages: [] }, CONTEXT));
  });

  test("[R13] an event of 1 MiB of JSON is taken, one byte more is refused", () => {
    const size = 1024 * 1024;
    const build = (chars: number) => {
      const stages = Array.from({ length: 4_500 }, (_, index) => ({
        stage: `s${1_000 + index}`,
        name: "x".repeat(Math.max(1, Math.min(256, chars - index * 256))),
      }));
      return { stages };
    };
    const bytes = (chars: number) => Buffer.byteLength(planEvent(build(chars)).text);
    const small = 400 * 256;
    // Each stage beyond `chars` has a name of one character: that of the next one is there already.
    const perStage = bytes(small + 256) - bytes(small);
    const missing = size - bytes(small);
    const whole = Math.floor(missing / perStage);
    const full = small + whole * 256;
    const chars = full + 1 + (size - bytes(full));
    expect(bytes(chars)).toBe(size);
    refuses(() => planEvent(build(chars + 1)));
  });

  test("[R13] what counts is bytes, not characters", () => {
    const stages = (char: string) =>
      Array.from({ length: 2_500 }, (_, index) => ({ stage: `s${index}`, name: char.repeat(256) }));
    expect(Buffer.byteLength(planEvent({ stages: stages("x") }).text)).toBeLessThan(1024 * 1024);
    refuses(() => planEvent({ stages: stages("é") }));
  });
});

describe("ids", () => {
  test.each([
    ["one character", "j"],
    ["100 characters", "j".repeat(100)],
    ["100 bytes when percent-encoded", `${"é".repeat(16)}jjjj`],
    ["spaces, slashes and question marks", "a b/c?d#e%f"],
    ["three dots", "..."],
    ["dots inside", "a.b..c"],
    ["an emoji", "🚀"],
    ["what only looks hostile", "__proto__2"],
  ])("[R13] a job id may be %s", (_, jobId) => {
    expect(jobEvent({ jobId }).jobId).toBe(jobId);
    expect(isJobId(jobId)).toBe(true);
  });

  test.each([
    ["empty", ""],
    ["one dot", "."],
    ["two dots", ".."],
    ["101 characters", "j".repeat(101)],
    ["101 bytes when percent-encoded", `${"é".repeat(16)}jjjjj`],
    ["34 spaces (102 bytes)", " ".repeat(34)],
    ["9 emojis (108 bytes)", "🚀".repeat(9)],
    ["a lone surrogate", "a\ud83d"],
    ["a lone low surrogate", "\ude80a"],
    ["very long", "j".repeat(10_000_000)],
  ])("[R13] a job id that is %s is refused", (_, jobId) => {
    refuses(() => jobEvent({ jobId }));
    expect(isJobId(jobId)).toBe(false);
  });

  test.each(["__proto__", "constructor", "prototype"])(
    "[R14] the job id %s is refused",
    (jobId) => {
      refuses(() => jobEvent({ jobId }));
      expect(isJobId(jobId)).toBe(false);
    },
  );

  test.each([
    ["undefined", undefined],
    ["null", null],
    ["a number", 1],
    ["a boxed text", Object("j")],
    ["an object with toString", { toString: () => "j" }],
    ["an array", ["j"]],
    ["a symbol", Symbol("j")],
  ])("[R13] a job id that is %s is refused", (_, jobId) => {
    refuses(() => jobEvent({ jobId }));
  });

  const controls = [..."\0\u0001\b\t\n\v\f\r\u001f\u007f\u0080\u0085\u009f", "\ud83d", "\ude00"];

  test.each(
    controls.map((char) => [`U+${char.charCodeAt(0).toString(16).padStart(4, "0")}`, char]),
  )("[R14] the control character %s is refused in every id", (_, char) => {
    for (const id of [`a${char}`, `${char}a`, `a${char}b`]) {
      refuses(() => jobEvent({ jobId: id }));
      expect(isJobId(id)).toBe(false);
      refuses(() => stageEvent({ stage: id }));
      refuses(() => stageEvent({ id }));
      refuses(() => planOf({ stage: id }));
      refuses(() => planOf({ dependsOn: [id] }));
    }
  });

  const places: [string, (id: unknown) => unknown][] = [
    ["a stage id", (id) => stageEvent({ stage: id })],
    ["a planned stage id", (id) => planOf({ stage: id })],
    ["an event id of a stage", (id) => stageEvent({ id })],
    ["an event id of a job", (id) => jobEvent({ id })],
    ["an event id of a plan", (id) => planEvent({ id })],
  ];

  test.each(places)("[R13] %s has 1 to 128 characters", (_, use) => {
    expect(() => use("x")).not.toThrow();
    expect(() => use("x".repeat(128))).not.toThrow();
    expect(() => use("a b/c.d:e")).not.toThrow();
    refuses(() => use(""));
    refuses(() => use("x".repeat(129)));
    refuses(() => use("x".repeat(10_000_000)));
  });

  test.each(places)("[R14] %s that is a hostile key is refused", (_, use) => {
    for (const id of ["__proto__", "constructor", "prototype"]) refuses(() => use(id));
  });

  test.each(places)("[R13] %s that is no text is refused", (_, use) => {
    for (const id of [1, Number.NaN, true, {}, ["x"], Symbol("x"), 1n, Object("x")]) {
      refuses(() => use(id));
    }
  });

  test("[R13] a stage event without a stage is refused", () => {
    refuses(() => normalise("stage", { jobId: "j" }, CONTEXT));
    refuses(() => planEvent({ stages: [{}] }));
    refuses(() => planEvent({ stages: [{ name: "a" }] }));
  });
});

describe("numbers", () => {
  const wholes: [string, (value: unknown) => unknown][] = [
    ["attempt", (value) => stageEvent({ attempt: value })],
    ["run of a stage event", (value) => stageEvent({ run: value })],
    ["run of a job event", (value) => jobEvent({ run: value })],
    ["run of a plan event", (value) => planEvent({ run: value })],
    ["maxAttempts", (value) => planOf({ maxAttempts: value })],
  ];

  test.each(wholes)("[R13] %s is a whole number from 1", (_, use) => {
    for (const good of [1, 2, 1_000, 2 ** 31]) expect(() => use(good)).not.toThrow();
    for (const bad of [
      0,
      -0,
      -1,
      0.5,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "1",
      1n,
      true,
      [1],
      {},
    ]) {
      refuses(() => use(bad));
    }
  });

  test("[R13] a weight is from 0 to 10⁹", () => {
    for (const weight of [0, Number.MIN_VALUE, 0.1, 1, 1e9]) {
      expect((planOf({ weight }).event as NormalPlanEvent).stages[0]?.weight).toBe(weight);
    }
    for (const weight of [
      -Number.MIN_VALUE,
      -1,
      1e9 + 0.001,
      1e9 + 1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "1",
      1n,
      null,
      true,
    ]) {
      refuses(() => planOf({ weight }));
    }
  });

  test.each([
    [0, 0],
    [1, 1],
    [50, 50],
    [100, 100],
    [100.1, 100],
    [1e300, 100],
    [-0.1, 0],
    [-1, 0],
    [-1e300, 0],
    [0.9, 0],
    [33.999, 33],
    [99.999, 99],
  ])("[R7] [R13] a progress of %d is %d", (progress, percent) => {
    expect(asStage({ progress }).progress).toBe(percent);
    expect(asJob({ progress }).progress).toBe(percent);
  });

  test("[R13] a progress of -0 is plainly 0", () => {
    expect(Object.is(asStage({ progress: -0 }).progress, 0)).toBe(true);
    expect(Object.is(asStage({ progress: -0.5 }).progress, 0)).toBe(true);
  });

  test.each([
    [{ current: 0, total: 10 }, 0],
    [{ current: 1, total: 3 }, 33],
    [{ current: 2, total: 3 }, 66],
    [{ current: 10, total: 10 }, 100],
    [{ current: 11, total: 10 }, 100],
    [{ current: -1, total: 10 }, 0],
    [{ current: 29, total: 100 }, 29],
    [{ current: 57, total: 100 }, 57],
    [{ current: 0.5, total: 1 }, 50],
    [{ current: 5 }, null],
    [{ current: 5, total: undefined }, null],
  ])("[R7] a progress of %j is %s", (progress, percent) => {
    expect(asStage({ progress }).progress).toBe(percent);
    expect(asJob({ progress }).progress).toBe(percent);
  });

  test("[R7] every current of every total up to 100 is rounded down exactly", () => {
    for (let total = 1; total <= 100; total += 1) {
      for (let current = 0; current <= total; current += 1) {
        const exact = Number((BigInt(current) * 100n) / BigInt(total));
        expect(asStage({ progress: { current, total } }).progress).toBe(exact);
      }
    }
  });

  test.each([
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["-Infinity", Number.NEGATIVE_INFINITY],
    ["a text", "50"],
    ["true", true],
    ["a bigint", 50n],
    ["a symbol", Symbol("50")],
    ["an empty object", {}],
    ["an array", [50]],
    ["a current that is NaN", { current: Number.NaN, total: 1 }],
    ["a current that is a text", { current: "1", total: 2 }],
    ["a total that is Infinity", { current: 1, total: Number.POSITIVE_INFINITY }],
    ["a total that is NaN", { current: 1, total: Number.NaN }],
    ["a total that is a text", { current: 1, total: "2" }],
    ["a current without a total that is Infinity", { current: Number.POSITIVE_INFINITY }],
  ])("[R13] a progress that is %s is refused", (_, progress) => {
    refuses(() => stageEvent({ progress }));
    refuses(() => jobEvent({ progress }));
  });

  test("[R13] a progress of a total of 0 or less is a percent, not known, or refused, but never NaN", () => {
    for (const progress of [
      { current: 0, total: 0 },
      { current: 5, total: 0 },
      { current: 1, total: -2 },
    ]) {
      let percent: number | null | undefined;
      try {
        percent = asStage({ progress }).progress;
      } catch (thrown) {
        expect(thrown).toEqual(REFUSED);
        continue;
      }
      expect(
        percent === null || (Number.isInteger(percent) && percent! >= 0 && percent! <= 100),
      ).toBe(true);
    }
  });

  test("[R13] a plan has at most 5,000 stages, or as many as the host allows", () => {
    const stages = (count: number) =>
      Array.from({ length: count }, (_, index) => ({ stage: `s${index}` }));
    expect(asPlan({ stages: stages(5_000) }).stages).toHaveLength(5_000);
    refuses(() => planEvent({ stages: stages(5_001) }));
    const small = { ...CONTEXT, maxStages: 2 };
    expect(() => planEvent({ stages: stages(2) }, small)).not.toThrow();
    refuses(() => planEvent({ stages: stages(3) }, small));
  });

  test("[R13] a plan that pretends to have very many stages is refused", () => {
    refuses(() => planEvent({ stages: new Array(4_294_967_295) }));
  });
});

describe("types", () => {
  test.each<[string, Status]>([
    ["queued", "pending"],
    ["active", "running"],
    ["in_progress", "running"],
    ["success", "completed"],
    ["succeeded", "completed"],
    ["error", "failed"],
    ["canceled", "cancelled"],
    ...STATUSES.map((status): [string, Status] => [status, status]),
  ])("[R13] the status %s is %s", (word, status) => {
    expect(asStage({ status: word }).status).toBe(status);
    expect(asJob({ status: word }).status).toBe(status);
  });

  test.each([
    "",
    "RUNNING",
    "done",
    "toString",
    "__proto__",
    1,
    {},
    ["running"],
    Symbol("x"),
    true,
  ])("[R13] a status that is none is refused (%#)", (status) => {
    refuses(() => stageEvent({ status }));
    refuses(() => jobEvent({ status }));
  });

  const notTexts = [1, true, {}, [], Symbol("x"), 1n, Object("x"), () => "x", new Date()];

  test.each([
    ["message of a stage", (value: unknown) => stageEvent({ message: value })],
    ["message of a job", (value: unknown) => jobEvent({ message: value })],
    ["reason of a stage", (value: unknown) => stageEvent({ reason: value })],
    ["reason of a job", (value: unknown) => jobEvent({ reason: value })],
    ["name of a job", (value: unknown) => planEvent({ name: value })],
    ["name of a stage", (value: unknown) => planOf({ name: value })],
  ])("[R13] a %s that is no text is refused", (_, use) => {
    for (const value of notTexts) refuses(() => use(value));
  });

  test.each([undefined, null, {}, "a", 1, { length: 1, 0: { stage: "a" } }, new Set(["a"])])(
    "[R13] stages that are no list are refused (%#)",
    (stages) => {
      refuses(() => planEvent({ stages }));
    },
  );

  test.each([null, undefined, "a", 1, [], Symbol("a")])(
    "[R13] a planned stage that is no object with a stage is refused (%#)",
    (stage) => {
      refuses(() => planEvent({ stages: [stage] }));
    },
  );

  test("[R13] a list with holes is refused", () => {
    const stages: unknown[] = [{ stage: "a" }];
    stages[2] = { stage: "b" };
    refuses(() => planEvent({ stages }));
    const dependsOn: unknown[] = [];
    dependsOn[1] = "x";
    refuses(() => planOf({ dependsOn }));
  });

  test.each([
    ["a text", "a"],
    ["an object", {}],
    ["numbers", [1]],
    ["nulls", [null]],
    ["lists", [["a"]]],
    ["a Set", new Set(["a"])],
  ])("[R13] dependsOn that is %s is refused", (_, dependsOn) => {
    refuses(() => planOf({ dependsOn }));
  });

  test.each(["yes", 1, 0, {}, []])(
    "[R13] allowFailure that is no boolean is refused (%#)",
    (allowFailure) => {
      refuses(() => planOf({ allowFailure }));
    },
  );

  test.each([
    ["a list", ["a"]],
    ["a text", "a"],
    ["a number", 1],
    ["true", true],
    ["a symbol", Symbol("x")],
  ])("[R13] labels that are %s are refused", (_, labels) => {
    refuses(() => jobEvent({ labels }));
    refuses(() => planEvent({ labels }));
  });
});

describe("what is shortened", () => {
  const texts: [
    string,
    number,
    (value: string) => { event: unknown; notices: string[] },
    string,
  ][] = [
    ["message of a stage", 512, (message) => stageEvent({ message }), "message"],
    ["message of a job", 512, (message) => jobEvent({ message }), "message"],
    ["reason of a stage", 512, (reason) => stageEvent({ reason }), "reason"],
    ["reason of a job", 512, (reason) => jobEvent({ reason }), "reason"],
    ["name of a job", 256, (name) => planEvent({ name }), "name"],
  ];

  test.each(texts)("[R13] the %s has at most %i characters", (_, most, use, field) => {
    const text = (event: unknown) => String((event as Fields)[field]);
    const edge = use("x".repeat(most));
    expect(text(edge.event)).toBe("x".repeat(most));
    expect(edge.notices).toEqual([]);
    for (const length of [most + 1, 10 * most]) {
      const over = use("x".repeat(length));
      expect(text(over.event).length).toBeLessThanOrEqual(most);
      expect(text(over.event).length).toBeGreaterThanOrEqual(most - 3);
      expect(text(over.event).slice(0, most - 3)).toBe("x".repeat(most - 3));
      expect(over.notices).toHaveLength(1);
    }
  });

  test("[R13] the name of a stage has at most 256 characters", () => {
    const name = (length: number) => planOf({ name: "x".repeat(length) });
    expect((name(256).event as NormalPlanEvent).stages[0]?.name).toHaveLength(256);
    expect(name(256).notices).toEqual([]);
    expect((name(257).event as NormalPlanEvent).stages[0]?.name.length).toBeLessThanOrEqual(256);
    expect(name(257).notices).not.toEqual([]);
  });

  test("[R13] a text is not cut inside of a character", () => {
    for (const pad of ["", "x"]) {
      const { message } = asStage({ message: pad + "🚀".repeat(400) });
      expect(message!.length).toBeLessThanOrEqual(512);
      expect(Buffer.from(message!).toString()).toBe(message);
    }
  });

  test("[R13] what is shortened is still applied", () => {
    expect(asStage({ status: "running", progress: 3, message: "x".repeat(600) })).toMatchObject({
      status: "running",
      progress: 3,
    });
  });
});

describe("metadata", () => {
  /** A value whose JSON has that many bytes. */
  const sized = (bytes: number) => "x".repeat(bytes - 2);

  test.each([
    ["a stage", 4 * 1024, (metadata: unknown) => stageEvent({ metadata })],
    ["a job", 16 * 1024, (metadata: unknown) => jobEvent({ metadata })],
    ["a plan", 16 * 1024, (metadata: unknown) => planEvent({ metadata })],
  ])("[R13] of %s: %i bytes are kept, more are dropped and reported", (_, most, use) => {
    const edge = use(sized(most));
    expect((edge.event as NormalJobEvent).metadata).toBe(sized(most));
    expect(edge.notices).toEqual([]);
    const over = use(sized(most + 1));
    expect(over.event).not.toHaveProperty("metadata");
    expect(over.notices).toHaveLength(1);
    const wide = use("é".repeat(most / 2));
    expect(wide.event).not.toHaveProperty("metadata");
  });

  const circular: Fields = {};
  circular.self = circular;
  const loop: unknown[] = [];
  loop.push([loop]);

  test.each([
    ["circular", circular],
    ["a circular list", loop],
    ["a bigint", 1n],
    ["a bigint inside", { deep: [1n] }],
    ["a function", () => 1],
    ["a symbol", Symbol("x")],
    [
      "a toJSON that throws",
      {
        toJSON: () => {
          throw new Error("secret");
        },
      },
    ],
    ["a toJSON that gives nothing", { toJSON: () => undefined }],
  ])(
    "[R13] that is %s is dropped and reported, the rest of the event is applied",
    (_, metadata) => {
      for (const use of [stageEvent, jobEvent]) {
        const { event, notices } = use({ status: "running", metadata });
        expect(event).toMatchObject({ status: "running" });
        expect(event).not.toHaveProperty("metadata");
        expect(notices).toHaveLength(1);
        expect(notices.join()).not.toContain("secret");
      }
      const { event, notices } = planEvent({ stages: [{ stage: "a" }], metadata });
      expect(event).not.toHaveProperty("metadata");
      expect(notices).toHaveLength(1);
    },
  );

  test.each([
    ["an object", { a: { b: [1, "x", null, true] } }],
    ["a list", [1, [2, [3]]]],
    ["a text", "text"],
    ["an empty text", ""],
    ["a number", 0],
    ["false", false],
    ["null", null],
    ["an empty object", {}],
  ])("[R13] may be %s", (_, metadata) => {
    const { event, notices } = stageEvent({ metadata });
    expect((event as NormalStageEvent).metadata).toEqual(metadata);
    expect(notices).toEqual([]);
  });

  test("[R13] is what JSON makes of it", () => {
    class Point {
      x = 1;
      #hidden = 2;
      get hidden() {
        return this.#hidden;
      }
    }
    const { event, text } = stageEvent({
      metadata: {
        at: new Date(0),
        point: new Point(),
        list: [undefined, () => 1],
        none: undefined,
      },
    });
    expect((JSON.parse(text) as NormalStageEvent).metadata).toEqual(
      (event as NormalStageEvent).metadata,
    );
    expect((event as NormalStageEvent).metadata).toEqual({
      at: "1970-01-01T00:00:00.000Z",
      point: { x: 1 },
      list: [null, null],
    });
  });

  test("[R13] so deep that it cannot be read is dropped or refused, and nothing foreign is thrown by the monitor", async () => {
    let deep: unknown = 1;
    for (let level = 0; level < 100_000; level += 1) deep = [deep];
    await expect(
      outcome({ type: "stage", jobId: "j", stage: "a", metadata: deep }),
    ).resolves.toMatch(/^(taken|refused)$/);
  });

  test.each(["__proto__", "constructor", "prototype"])(
    "[R14] with the key %s is refused, at any depth",
    (key) => {
      for (const metadata of [
        withKey(key),
        { a: withKey(key) },
        [withKey(key)],
        { a: [{ b: withKey(key, { polluted: true }) }] },
      ]) {
        refuses(() => stageEvent({ metadata }));
        refuses(() => jobEvent({ metadata }));
        refuses(() => planEvent({ metadata }));
      }
      expect(({} as Fields).polluted).toBeUndefined();
    },
  );

  test("[R14] with such a word as a value is nothing special", () => {
    expect(asStage({ metadata: ["__proto__", { a: "constructor" }] }).metadata).toEqual([
      "__proto__",
      { a: "constructor" },
    ]);
  });
});

describe("labels", () => {
  const many = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"]));
  const labelsOf = ({ event }: { event: unknown }) => (event as NormalJobEvent).labels ?? {};

  test("[R13] 32 labels are kept; of more, what is over is dropped and reported", () => {
    expect(labelsOf(jobEvent({ labels: many(32) }))).toEqual(many(32));
    expect(jobEvent({ labels: many(32) }).notices).toEqual([]);
    const over = jobEvent({ labels: many(33) });
    expect(Object.keys(labelsOf(over)).length).toBeLessThanOrEqual(32);
    expect(over.notices).toHaveLength(1);
  });

  test("[R13] keys have at most 64 characters, values 256", () => {
    const edge = { ["k".repeat(64)]: "v".repeat(256), "": "" };
    expect(labelsOf(planEvent({ labels: edge }))).toEqual(edge);
    expect(planEvent({ labels: edge }).notices).toEqual([]);
    for (const labels of [{ ["k".repeat(65)]: "v" }, { k: "v".repeat(257) }]) {
      const over = jobEvent({ labels });
      expect(labelsOf(over)).toEqual({});
      expect(over.notices).toHaveLength(1);
    }
  });

  test.each([1, null, undefined, true, {}, Symbol("v")])(
    "[R13] a label whose value is no text is not taken (%#)",
    (value) => {
      let labels: Record<string, string>;
      try {
        labels = labelsOf(jobEvent({ labels: { k: value } }));
      } catch (thrown) {
        expect(thrown).toEqual(REFUSED);
        return;
      }
      expect(labels).toEqual({});
    },
  );

  test.each(["__proto__", "constructor", "prototype"])("[R14] the key %s is refused", (key) => {
    refuses(() => jobEvent({ labels: withKey(key, "v") }));
    refuses(() => planEvent({ labels: withKey(key, "v") }));
  });
});

describe("hostile keys", () => {
  test.each(["__proto__", "constructor", "prototype"])(
    "[R14] an event with an own key %s is refused",
    (key) => {
      refuses(() => stageEvent({ ...withKey(key, {}) }));
      const own = JSON.parse(
        `{"jobId":"j","stage":"a","stages":[],${JSON.stringify(key)}:{"x":1}}`,
      ) as unknown;
      for (const type of ["stage", "job", "plan"]) refuses(() => normalise(type, own, CONTEXT));
    },
  );

  test.each(["__proto__", "constructor", "prototype"])(
    "[R14] a planned stage with an own key %s is refused",
    (key) => {
      const stages = JSON.parse(`[{"stage":"a",${JSON.stringify(key)}:{"weight":5}}]`) as unknown;
      refuses(() => planEvent({ stages }));
    },
  );

  test.each(["__proto__", "constructor", "prototype"])(
    "[R14] a dependsOn of %s is refused",
    (key) => {
      refuses(() => planOf({ dependsOn: [key] }));
    },
  );
});

describe("errors", () => {
  const errorOf = (error: unknown) => asStage({ error }).error;

  class CodedError extends Error {
    override readonly name = "CodedError";
    code: unknown = "E_CODED";
  }

  test.each([
    ["an Error", new Error("boom"), { code: "Error", message: "boom" }],
    ["an Error of a kind", new TypeError("boom"), { code: "TypeError", message: "boom" }],
    ["an Error with a code", new CodedError("boom"), { code: "E_CODED", message: "boom" }],
    [
      "an Error with a code that is no text",
      Object.assign(new CodedError("boom"), { code: 5 }),
      { code: "CodedError", message: "boom" },
    ],
    ["a text", "boom", { code: "ERROR", message: "boom" }],
    ["an object with a message", { message: "boom" }, { code: "ERROR", message: "boom" }],
    ["an object with both", { code: "C", message: "boom" }, { code: "C", message: "boom" }],
    ["an object with a name", { name: "N", message: "boom" }, { code: "N", message: "boom" }],
  ])("[R12] %s becomes a code and a message", (_, error, shown) => {
    expect(errorOf(error)).toEqual(shown);
    expect(asJob({ error }).error).toEqual(shown);
  });

  test.each([1, Number.NaN, true, Symbol("x"), 1n, () => "x", [], {}])(
    "[R12] whatever else was thrown is refused, or has a code and a message (%#)",
    (error) => {
      let shown: unknown;
      try {
        shown = errorOf(error);
      } catch (thrown) {
        expect(thrown).toEqual(REFUSED);
        return;
      }
      expect(shown).toEqual({ code: expect.any(String), message: expect.any(String) });
    },
  );

  test("[R12] nothing but code and message is shown, never a stack", () => {
    const error = Object.assign(new Error("boom", { cause: new Error("cause") }), {
      password: "secret",
      stack: "at secret.ts:1",
    });
    const { text } = stageEvent({ error });
    expect(Object.keys(errorOf(error) ?? {}).sort()).toEqual(["code", "message"]);
    expect(text).not.toMatch(/secret|cause|stack/);
  });

  test("[R12] an error has at most 2 KB", () => {
    const bytes = (error: unknown) => {
      const { code, message } = errorOf(error) ?? { code: "", message: "" };
      return Buffer.byteLength(code + message);
    };
    for (const error of [
      "x".repeat(10_000_000),
      { code: "c".repeat(100_000), message: "m" },
      { code: "c".repeat(100_000), message: "m".repeat(100_000) },
      new Error("é".repeat(5_000)),
      new Error("🚀".repeat(5_000)),
      new Error("\u2028\u0000\n".repeat(5_000)),
      new Error("\ud83d".repeat(5_000)),
    ]) {
      expect(bytes(error)).toBeLessThanOrEqual(2_048);
    }
    const short = { code: "C", message: "m".repeat(1_000) };
    expect(errorOf(short)).toEqual(short);
  });

  test("[R12] a hook may say less", () => {
    const error = new Error("secret");
    const seen: unknown[] = [];
    const context: NormaliseContext = {
      ...CONTEXT,
      redactError: (given, where) => {
        seen.push(given, where);
        return { code: "HIDDEN", message: "something failed" };
      },
    };
    const { event } = stageEvent({ error }, context);
    expect((event as NormalStageEvent).error).toEqual({
      code: "HIDDEN",
      message: "something failed",
    });
    expect((jobEvent({ error }, context).event as NormalJobEvent).error?.code).toBe("HIDDEN");
    expect(seen[0]).toBe(error);
    expect(seen[1]).toEqual({ jobId: "j", stage: "a" });
    expect(seen[3]).toEqual({ jobId: "j" });
    expect((stageEvent({ error: null }, context).event as NormalStageEvent).error).toBeNull();
    expect(seen).toHaveLength(4);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("secret of the hook");
      },
    ],
    ["gives nothing", () => undefined],
    ["gives null", () => null],
    ["gives a promise", () => Promise.resolve({ code: "C", message: "m" })],
    ["gives a code that is no text", () => ({ code: 1, message: { secret: true } })],
    [
      "gives a getter that throws",
      () => ({
        code: "C",
        get message(): string {
          throw new Error("secret");
        },
      }),
    ],
  ])("[R12] of a hook that %s nothing of the error is shown", (_, redactError) => {
    const { event, text } = stageEvent(
      { status: "failed", error: new CodedError("secret") },
      { ...CONTEXT, redactError: redactError as never },
    );
    expect(text).not.toMatch(/secret|CODED/);
    expect(event).toMatchObject({
      status: "failed",
      error: { code: expect.any(String), message: expect.any(String) },
    });
  });

  test("[R12] what the hook gives is bounded as well", () => {
    const { event, text } = stageEvent(
      { error: "x" },
      {
        ...CONTEXT,
        redactError: () =>
          ({ code: "C".repeat(10_000), message: "m".repeat(10_000), stack: "secret" }) as never,
      },
    );
    expect(text).not.toContain("secret");
    const { code, message } = (event as NormalStageEvent).error!;
    expect(Buffer.byteLength(code + message)).toBeLessThanOrEqual(2_048);
  });
});

// What a host may throw at a monitor: nothing but `refused` comes back.

const monitors: { close(): Promise<void> }[] = [];

afterEach(async () => {
  await Promise.all(monitors.splice(0).map((monitor) => monitor.close()));
});

function open() {
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  const errors: WorkflowMonitorError[] = [];
  monitor.on("error", (error) => errors.push(error));
  const engine = createEngine();
  monitor.attach(engine);
  monitors.push(monitor);
  return { monitor, engine, errors };
}

/** "taken", or the code of the error. */
async function outcomeOf(published: Promise<unknown>): Promise<string> {
  try {
    await published;
    return "taken";
  } catch (thrown) {
    const { name, code } = thrown as WorkflowMonitorError;
    return name === "WorkflowMonitorError" ? code : String(thrown);
  }
}

const outcome = (event: unknown) => outcomeOf(open().monitor.publish(event as PublishedEvent));

const trap = (): never => {
  throw new Error("from the host");
};

const throwing = (field: string, base: Fields = {}) =>
  Object.defineProperty({ jobId: "j", stage: "a", stages: [], ...base }, field, {
    enumerable: true,
    get: trap,
  });

const hostile: [string, unknown][] = [
  ["a getter of jobId that throws", throwing("jobId")],
  ["a getter of stage that throws", throwing("stage")],
  ["a getter of status that throws", throwing("status")],
  ["a getter of timestamp that throws", throwing("timestamp")],
  ["a getter of progress that throws", throwing("progress")],
  [
    "a getter that throws inside of progress",
    {
      jobId: "j",
      stage: "a",
      progress: {
        get current() {
          return trap();
        },
      },
    },
  ],
  [
    "a getter that throws a text",
    {
      jobId: "j",
      stage: "a",
      get status() {
        return AbortSignal.abort("text").throwIfAborted();
      },
    },
  ],
  [
    "a proxy whose every trap throws",
    new Proxy(
      {},
      { get: trap, has: trap, ownKeys: trap, getOwnPropertyDescriptor: trap, getPrototypeOf: trap },
    ),
  ],
  [
    "a revoked proxy",
    (() => {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      return proxy;
    })(),
  ],
  ["a job id that cannot become a text", { jobId: Object.create(null), stage: "a" }],
  ["a symbol for a status", { jobId: "j", stage: "a", status: Symbol("running") }],
  [
    "an object that cannot become a text for a status",
    { jobId: "j", stage: "a", status: Object.create(null) },
  ],
];

describe("hostile input at the monitor", () => {
  test.each(hostile)("[R13] %s is refused by publish", async (_, input) => {
    const { monitor } = open();
    let event: unknown;
    if (typeof input === "object" && input !== null) {
      event = new Proxy(input, {
        get: (target, key, receiver) =>
          key === "type" ? "stage" : Reflect.get(target, key, receiver),
      });
    }
    const promise = monitor.publish(event as PublishedEvent);
    await expect(promise).rejects.toMatchObject({ name: "WorkflowMonitorError", code: "refused" });
  });

  test.each(hostile)("[R13] %s is one error event when the engine emits it", (_, input) => {
    const { engine, errors } = open();
    expect(() => engine.emit("stage", input as never)).not.toThrow();
    expect(errors.map(({ code }) => code)).toEqual(["refused"]);
  });

  test.each([
    undefined,
    null,
    0,
    "x",
    Symbol("x"),
    1n,
    [],
    () => 1,
    {},
    new Proxy({}, { get: trap }),
  ])("[R13] publish of what is no event rejects, and does not throw (%#)", async (event) => {
    const { monitor } = open();
    let promise: Promise<unknown> | undefined;
    expect(() => {
      promise = monitor.publish(event as never);
    }).not.toThrow();
    await expect(promise).rejects.toMatchObject({ code: "refused" });
  });

  test.each(["stage", "job", "plan"] as const)(
    "[R13] emit('%s') without an event throws nothing",
    (name) => {
      const { engine, errors } = open();
      for (const event of [undefined, null, 1, "x"]) engine.emit(name, event as never);
      expect(errors.map(({ code }) => code)).toEqual(["refused", "refused", "refused", "refused"]);
    },
  );

  test.each([
    [
      "metadata with a getter that throws",
      {
        metadata: {
          get x() {
            return trap();
          },
        },
      },
    ],
    ["metadata that is a proxy", { metadata: new Proxy({}, { ownKeys: trap }) }],
    [
      "an error with a getter that throws",
      {
        error: {
          get message() {
            return trap();
          },
        },
      },
    ],
    [
      "an error whose code throws",
      {
        error: {
          message: "m",
          get code() {
            return trap();
          },
        },
      },
    ],
    [
      "an error that is a revoked proxy",
      {
        error: (() => {
          const { proxy, revoke } = Proxy.revocable({}, {});
          revoke();
          return proxy;
        })(),
      },
    ],
    [
      "a Date whose methods throw",
      { timestamp: Object.assign(new Date(), { getTime: trap, toISOString: trap, valueOf: trap }) },
    ],
    ["a message of 10 million characters", { message: "x".repeat(10_000_000) }],
    ["a message of lone surrogates", { message: "\ud800".repeat(1_000) }],
    ["metadata of 10 million characters", { metadata: "x".repeat(10_000_000) }],
    ["a bigint inside of metadata", { metadata: { x: 1n } }],
  ])("[R13] %s breaks nothing: the event is taken or refused", async (_, fields) => {
    const event = { type: "stage", jobId: "j", stage: "a", ...fields };
    await expect(outcome(event)).resolves.toMatch(/^(taken|refused)$/);
    const { engine, errors } = open();
    expect(() => engine.emit("stage", event as never)).not.toThrow();
    expect(errors.length).toBeLessThanOrEqual(1);
  });

  test("[R13] a plan with holes in its stages harms no other event", async () => {
    const { monitor, errors } = open();
    const stages = [{ stage: "a" }];
    stages[2] = { stage: "b" };
    const first = monitor.publish({ type: "job", jobId: "j", message: "before" });
    const holes = monitor.publish({ type: "plan", jobId: "j", stages });
    const last = monitor.publish({ type: "stage", jobId: "j", stage: "c", status: "running" });
    await expect(holes).rejects.toMatchObject({ code: "refused" });
    await Promise.all([first, last]);
    await expect(monitor.get("j")).resolves.toMatchObject({ message: "before", currentStage: "c" });
    expect(errors.map(({ code }) => code)).toEqual(["refused"]);
  });

  test.each([1_000, 2_000, 4_000, 8_000])(
    "[R13] metadata %i levels deep harms no other event, said once or twice",
    async (levels) => {
      const { monitor } = open();
      const metadata = () => JSON.parse("[".repeat(levels) + "]".repeat(levels)) as unknown;
      const first = monitor.publish({ type: "job", jobId: "j", message: "before" });
      const deep = [1, 2].map(() =>
        outcomeOf(monitor.publish({ type: "job", jobId: "j", metadata: metadata() })),
      );
      const last = monitor.publish({ type: "stage", jobId: "j", stage: "c", status: "running" });
      await Promise.all([first, last]);
      for (const each of await Promise.all(deep)) expect(each).toMatch(/^(taken|refused)$/);
      await expect(monitor.get("j")).resolves.toMatchObject({
        message: "before",
        currentStage: "c",
      });
    },
  );

  test("[R12] a hook that throws does not lose the event", async () => {
    const monitor = createWorkflowMonitor({ authorize: allowAll, redactError: trap });
    monitors.push(monitor);
    await monitor.publish({
      type: "stage",
      jobId: "j",
      stage: "a",
      status: "failed",
      error: "secret",
    });
    const job = await monitor.get("j");
    expect(job?.stages[0]?.status).toBe("failed");
    expect(JSON.stringify(job)).not.toContain("secret");
  });

  test("[R17] what the host changes after publish changes nothing", async () => {
    const { monitor } = open();
    const event = { type: "job" as const, jobId: "j", message: "before", metadata: { list: [1] } };
    const promise = monitor.publish(event);
    event.message = "after";
    event.metadata.list.push(2);
    event.jobId = "other";
    await promise;
    await expect(monitor.get("j")).resolves.toMatchObject({
      message: "before",
      metadata: { list: [1] },
    });
    await expect(monitor.get("other")).resolves.toBeUndefined();
  });
});
