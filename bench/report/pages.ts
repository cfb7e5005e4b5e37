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
  const row = (what: string, print: (costs: PageCosts) => string) => [
    what,
    ...PAGE_SUBJECTS.map((subject) => print(costs[subject])),
  ];
  /** Of those who have something to show: not the client alone, which is the first. */
  const shown = (...args: Parameters<typeof row>) => row(...args).with(1, "");
  const median = (series: Series, digits: number) => spread(series).median.toFixed(digits);
  /** The longest of all rounds. */
  const task = (series: Series) => {
    const { max } = spread(series);
    return max === 0 ? "< 50" : max.toFixed(0);
  };
  return table(
    [
      `a page of ${stages} stages, ${RATE} updates/s`,
      ...PAGE_SUBJECTS.map((subject) => TITLES[subject]),
    ],
    [
      row("main thread busy, % of the time", ({ busy }) => median(busy, 1)),
      row("… of that, styles and layout", ({ looks }) => median(looks, 1)),
      row("updates/s that came", ({ updates }) => median(updates, 0)),
      row("… in messages/s", ({ messages }) => median(messages, 0)),
      shown("… shown, times/s", ({ shows }) => median(shows, 1)),
      row("longest task, ms", ({ longest }) => task(longest)),
      shown("first state in the DOM, after ms", ({ paint }) => median(paint.ms, 1)),
      shown("… at the beginning of frame", ({ paint }) => median(paint.frames, 0)),
      shown("… longest task until all is laid out, ms", ({ paint }) => task(paint.longest)),
    ],
  );
}
