import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FrameInput, frame } from "../../packages/cli/src/frame.js";
import { pickStages } from "../../packages/cli/src/stage-window.js";
import { widthOf } from "../../packages/cli/src/text.js";
import { at, graphemes, HOSTILE, job, jobAfter, live, lost, plan, stage } from "./given.js";

const COLOR = new RegExp(`${"\u001b"}\\[\\d+m`, "g");
const now = Date.parse(at(43));
const base = { title: "42", connection: live, now, columns: 80, rows: 24, colors: false };
const shown = (input: Partial<FrameInput>) => frame({ ...base, job: null, ...input });

const RELEASE = jobAfter(
  plan(["build", ["test", { maxAttempts: 3 }], "sign", "notify"], { name: "Release 7" }),
  stage("build", { status: "completed", progress: 100 }),
  stage("test", { status: "running", attempt: 2, progress: 50, message: "unit tests" }),
  stage("sign", { status: "waiting", reason: "approval" }),
);

describe("the picture of a job", () => {
  test("has the job, the connection and a line for each stage", () => {
    expect(shown({ job: RELEASE })).toEqual([
      "⠋ Release 7  running  ██████░░░░░░░░░░░░  37 %  0:42",
      "  live over WebSocket · 4 stages: 1 pending, 1 running, 1 waiting, 1 completed",
      "  ✔ build  completed ██████████████████ 100 %",
      "  ⠋ test   running   █████████░░░░░░░░░  50 %  attempt 2 of 3: unit tests",
      "  … sign   waiting   ░░░░░░░░░░░░░░░░░░        approval",
      "  · notify pending   ░░░░░░░░░░░░░░░░░░",
    ]);
  });

  test("shows the end and its cause", () => {
    const failed = jobAfter(
      plan(["build", "test"]),
      stage("build", {
        status: "failed",
        timestamp: at(61),
        error: { code: "EXIT", message: "exit code 1" },
      }),
      job({
        status: "failed",
        timestamp: at(62),
        error: { code: "EXIT", message: "build failed" },
      }),
    );
    const connection = { ...live, state: "ended" } as const;
    expect(shown({ job: failed, connection })).toEqual([
      "✖ job  failed  ░░░░░░░░░░░░░░░░░░   0 %  0:01",
      "  build failed",
      "  2 stages: 1 failed, 1 skipped",
      "  ✖ build failed    ░░░░░░░░░░░░░░░░░░   0 %  exit code 1",
      "  ↓ test  skipped   ░░░░░░░░░░░░░░░░░░        not run",
    ]);
  });

  test("counts down to the next try, says why, and stands still meanwhile", () => {
    const connection = lost("The line was cut.", now + 2_500);
    const lines = shown({ job: RELEASE, connection });
    expect(lines[1]).toMatch(/^ {2}reconnecting in 3 s: The line was cut\. · 4 stages/);
    expect(shown({ job: RELEASE, connection, now: now + 100 })).toEqual(lines);
  });

  test("says that the server has lost its store", () => {
    expect(shown({ job: RELEASE, connection: { ...live, stale: true } })[1]).toContain(
      "may be old",
    );
  });

  test("moves while the connection does", () => {
    const unknown = jobAfter(stage("build", { status: "running" }));
    const next = shown({ job: RELEASE, now: now + 100 });
    expect(next[3]).toMatch(/^ {2}⠙/);
    expect(shown({ job: unknown, now: now + 100 })[2]).toContain(" ░░░░░░░░░░░░░░░▒▒▒");
  });

  test("is two lines before anything is known", () => {
    const connection = { ...live, state: "connecting", transport: null } as const;
    expect(shown({ connection })).toEqual(["⠿ 42", "  connecting"]);
  });

  test("has colours only if it may", () => {
    expect(shown({ job: RELEASE }).join("")).not.toContain("\u001b");
    const painted = shown({ job: RELEASE, colors: true });
    expect(painted[2]).toContain("\u001b[32m✔\u001b[39m");
    expect(painted.join("").replaceAll(COLOR, "")).not.toContain("\u001b");
  });
});

describe("a job of more stages than the terminal has rows", () => {
  const ids = Array.from({ length: 5_000 }, (_, at) => `stage ${at}`);
  const many = jobAfter(
    plan(ids),
    stage("stage 7", { status: "failed" }),
    ...ids.slice(0, 4).map((id) => stage(id, { status: "completed" })),
    stage("stage 2000", { status: "running" }),
    stage("stage 4000", { status: "running" }),
  );

  test("shows the active ones, the failed ones, their neighbours, and counts the others", () => {
    const lines = shown({ job: many, rows: 10 });
    expect(lines.slice(2).map((line) => line.slice(4, 14).trim())).toEqual([
      "stage 7",
      "stage 1998",
      "stage 1999",
      "stage 2000",
      "stage 2001",
      "stage 4000",
      "and 4,994",
    ]);
    expect(lines.at(-1)).toBe("  … and 4,994 more: 4,990 pending, 4 completed");
  });

  test("shows the border of what is done when nothing is active", () => {
    const idle = jobAfter(
      plan(ids),
      ...ids.slice(0, 9).map((id) => stage(id, { status: "completed" })),
    );
    expect(pickStages(idle.stages, 4).map(({ stage }) => stage)).toEqual([
      "stage 7",
      "stage 8",
      "stage 9",
      "stage 10",
    ]);
  });
});

test("no picture is wider or higher than its terminal, nor does a hostile name get through", () => {
  const text = fc.oneof(fc.constantFrom(...HOSTILE), graphemes);
  const status = fc.constantFrom("running", "failed", "completed", "waiting", "skipped" as const);
  const stages = fc.uniqueArray(fc.record({ name: text, message: text, status }), {
    selector: ({ name }) => name,
    maxLength: 30,
  });
  const size = fc.record({ columns: fc.integer({ min: 1, max: 140 }), rows: fc.nat(40) });
  fc.assert(
    fc.property(stages, text, size, (each, name, { columns, rows }) => {
      const hostile = jobAfter(
        plan(
          each.map((one) => [one.name, { name: one.name }] as const),
          { name },
        ),
        ...each.map((one) => stage(one.name, { status: one.status, message: one.message })),
      );
      const connection = lost(name);
      const lines = shown({ job: hostile, connection, columns, rows });
      expect(lines.length).toBeLessThanOrEqual(Math.max(1, rows - 1));
      for (const line of lines) {
        expect(widthOf(line)).toBeLessThanOrEqual(Math.max(0, columns - 1));
        expect(line).not.toMatch(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/u);
      }
    }),
  );
});
