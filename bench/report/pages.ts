import { PAGE_SUBJECTS, type PageSubject } from "../browser/subjects.js";
import { type PageCosts, type PageResults, PER_SECOND, STAGES } from "../pages.js";
import { type Series, spread } from "../stats.js";
import { compared, measured, type Section, table } from "./markdown.js";

const TITLES: Record<PageSubject, string> = {
  client: "client alone",
  job: "`<workflow-job>`",
  graph: "`<workflow-graph>`",
  timeline: "`<workflow-timeline>`",
  all: "all three",
  "by hand": "by hand",
};
const RATE = PER_SECOND.toLocaleString("en");
/** Of the main thread, in percent. */
const MOST_BUSY = 20;
const MOST_FRAMES = 2;

export function pageSection(results: PageResults): Section {
  const pages = STAGES.map((stages) => ({ stages, costs: results[stages] }));
  return {
    table: pages.map(({ stages, costs }) => tableOf(stages, costs)).join("\n\n"),
    comparisons: pages.flatMap(({ stages, costs }) => [
      measured(
        `a page of ${stages} stages, all three elements, ${RATE} updates/s: main thread`,
        costs.all.busy,
        " %",
        { most: MOST_BUSY },
      ),
      measured("… first paint", costs.all.paint.frames, " frames", { most: MOST_FRAMES }),
      ...(["client", "job", "all"] as const).map((subject) =>
        compared(
          `… main thread, ${TITLES[subject]} ÷ by hand`,
          costs[subject].busy,
          costs["by hand"].busy,
        ),
      ),
    ]),
  };
}

function tableOf(stages: number, costs: Record<PageSubject, PageCosts>): string {
  const row = (
    what: string,
    of: (costs: PageCosts) => Series,
    print: (value: number) => string,
  ) => [what, ...PAGE_SUBJECTS.map((subject) => print(spread(of(costs[subject])).median))];
  const digits = (count: number) => (value: number) => value.toFixed(count);
  const task = (ms: number) => (ms === 0 ? "< 50" : ms.toFixed(0));
  return table(
    [
      `a page of ${stages} stages, ${RATE} updates/s`,
      ...PAGE_SUBJECTS.map((subject) => TITLES[subject]),
    ],
    [
      row("main thread busy, % of the time", ({ busy }) => busy, digits(1)),
      row("… of that, styles and layout", ({ looks }) => looks, digits(1)),
      row("updates/s that came", ({ updates }) => updates, digits(0)),
      row("… in frames/s", ({ frames }) => frames, digits(0)),
      row("times/s that an element showed it", ({ changes }) => changes, digits(1)),
      row("longest task, ms", ({ longest }) => longest, task),
      row("first state in the DOM after ms", ({ paint }) => paint.ms, digits(1)),
      row("… at the beginning of frame", ({ paint }) => paint.frames, digits(0)),
      row("… longest task until all was laid out, ms", ({ paint }) => paint.longest, task),
    ],
  );
}
