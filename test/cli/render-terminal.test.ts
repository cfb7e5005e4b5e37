import { expect, test } from "vitest";
import { terminalView } from "../../packages/cli/src/render-terminal.js";
import { ManualClock } from "../support/clock.js";
import { jobAfter, live, lost, plan, stage } from "./given.js";
import { Screen } from "./screen.js";

function started(columns = 80, rows = 24) {
  const screen = new Screen(columns, rows);
  const clock = new ManualClock();
  screen.write("$ workflow-monitor\n");
  const view = terminalView(screen, { title: "42", colors: true, clock });
  view.connection(live);
  return { screen, clock, view };
}

const LONG = "a message that is so long that it takes nearly the whole width of the terminal";
const begun = jobAfter(plan(["build"]), stage("build", { status: "running", message: LONG }));
const grown = jobAfter(
  plan(["build", "test", "sign"]),
  stage("build", { status: "completed", message: LONG }),
  stage("test", { status: "running", progress: 10 }),
);

test("the picture is drawn anew where it stands, and stays when the job is over", () => {
  const { screen, clock, view } = started();
  view.change(begun, { resumed: false });
  clock.advance(100);
  expect(screen.text.split("\n")).toHaveLength(4);
  expect(screen.cursorHidden).toBe(true);
  view.change(grown, { resumed: true });
  clock.advance(100);
  view.done(jobAfter(plan(["build"]), stage("build", { status: "completed" })));
  expect(screen.text.split("\n")).toEqual([
    "$ workflow-monitor",
    expect.stringMatching(/^✔ job {2}completed .* 100 %/),
    "  1 stage: 1 completed",
    expect.stringMatching(/^ {2}✔ build completed █+ 100 %$/),
  ]);
  expect(screen.cursorHidden).toBe(false);
  expect(clock.timers).toBe(0);
  expect(screen.listeners).toBe(0);
});

test("time goes on without news", () => {
  const { screen, clock, view } = started();
  view.change(begun, { resumed: false });
  view.connection(lost("The line was cut.", clock.now() + 5_000));
  clock.advance(2_100);
  expect(screen.text).toContain("reconnecting in 3 s: The line was cut.");
});

test("a terminal that becomes narrower, wider, lower is drawn in its new size, with nothing left of the old", () => {
  const { screen, clock, view } = started(120, 24);
  view.change(begun, { resumed: false });
  clock.advance(100);
  for (const columns of [40, 20, 100, 60]) {
    screen.resize(columns);
    clock.advance(100);
    expect(screen.text.split("\n")).toHaveLength(4);
    expect(screen.text).toContain("$ workflow-monitor\n");
  }
  view.change(grown, { resumed: true });
  clock.advance(100);
  screen.resize(60, 5);
  clock.advance(100);
  expect(screen.text).toMatch(/… and 2 more: 1 pending, 1 completed$/);
});

test("closing restores the cursor, twice is once", () => {
  const { screen, clock, view } = started();
  view.change(begun, { resumed: false });
  clock.advance(100);
  view.close();
  view.close();
  const last = screen.text;
  clock.advance(1_000);
  expect(screen.text).toBe(last);
  expect(screen.cursorHidden).toBe(false);
  expect(clock.timers).toBe(0);
});

test("a pseudo-terminal without a size is taken for one of 80 × 24", () => {
  const { screen, clock, view } = started();
  const narrow = { isTTY: true, columns: 0, rows: 0, write: (text: string) => screen.write(text) };
  view.close();
  const other = terminalView(narrow, { title: "42", colors: false, clock });
  other.connection(live);
  other.change(begun, { resumed: false });
  other.done(begun);
  expect(screen.text).toMatch(/build running .* a message/);
});
