import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, CDPSession, Page } from "playwright-core";
import { bundlePage, launchBrowser } from "./browser/browser.js";
import { PAGE_SUBJECTS, type PageBench, type PageSubject } from "./browser/subjects.js";
import { type Child, start } from "./child.js";
import type { PageServerCalls } from "./messages.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

export const PER_SECOND = 1_000;
/** What is watched: jobs of so many stages. */
export const STAGES = [9, 500] as const;
const VIEWPORT = { width: 1_100, height: 1_800 };
/** Until a page has everything, its graph laid out: then something is wrong. */
const PATIENCE_MS = 60_000;

/** What a page costs in each round. */
export interface PageCosts {
  /** Percent of the time that the main thread is busy. */
  busy: Series;
  /** Of that, in percent of the time too: what styles and layout take. */
  looks: Series;
  /** A second: updates that came, messages that they came in, and how often every view has shown something new. */
  updates: Series;
  messages: Series;
  shows: Series;
  /** The longest task while updates come, in milliseconds; 0: none has 50. */
  longest: Series;
  /** Until the first state stands in the DOM; the longest task on the way there. */
  paint: { ms: Series; frames: Series; longest: Series };
}
export type PageResults = Record<(typeof STAGES)[number], Record<PageSubject, PageCosts>>;

declare const bench: PageBench; // in the page

const noCosts = (): PageCosts => ({
  busy: [],
  looks: [],
  updates: [],
  messages: [],
  shows: [],
  longest: [],
  paint: { ms: [], frames: [], longest: [] },
});
const noneYet = () =>
  Object.fromEntries(PAGE_SUBJECTS.map((subject) => [subject, noCosts()])) as Record<
    PageSubject,
    PageCosts
  >;

/** What watching costs a page in a real browser. */
export async function measurePages(
  settings: Settings,
  log: (line: string) => void,
): Promise<PageResults> {
  const results: PageResults = { 9: noneYet(), 500: noneYet() };
  const browser = await launchBrowser();
  const server = start<PageServerCalls>(settings.file("page-server"));
  try {
    const readable = settings.profile("") !== undefined;
    const port = await server.call("listen", await bundlePage(readable));
    const url = `http://127.0.0.1:${port}/`;
    for (let round = 0; round < settings.page.rounds; round++) {
      for (const stages of STAGES) {
        log(`pages of ${stages} stages, round ${round + 1}`);
        for (const subject of round % 2 === 0 ? PAGE_SUBJECTS : PAGE_SUBJECTS.toReversed()) {
          const costs = results[stages][subject];
          await measurePage({ browser, server, url, settings }, subject, stages, costs);
        }
      }
    }
  } finally {
    server.stop();
    await browser.close();
  }
  return results;
}

interface Bench {
  browser: Browser;
  server: Child<PageServerCalls>;
  url: string;
  settings: Settings;
}

/** One subject on a fresh page. */
async function measurePage(
  { browser, server, url, settings }: Bench,
  subject: PageSubject,
  stages: number,
  costs: PageCosts,
): Promise<void> {
  const { warmUpMs, ms } = settings.page;
  const jobId = await server.call("open", stages);
  const context = await browser.newContext({ viewport: VIEWPORT });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(error));
  await page.goto(url);
  await page.waitForFunction(() => "bench" in globalThis);

  const paint = await page.evaluate(([subject, jobId]) => bench.begin(subject, jobId), [
    subject,
    jobId,
  ] as const);
  await page.waitForFunction(() => bench.seen().settled, null, { timeout: PATIENCE_MS });
  const first = await page.evaluate(() => bench.seen());
  costs.paint.ms.push(paint.ms);
  costs.paint.frames.push(paint.frames);
  costs.paint.longest.push(first.longest);

  await server.call("start", jobId, stages, PER_SECOND);
  await sleep(warmUpMs);
  const file = settings.profile(`page-${subject.replaceAll(" ", "-")}-${stages}`);
  const cdp = await context.newCDPSession(page);
  await cdp.send("Performance.enable");
  await page.evaluate(() => bench.forget());
  if (file) await beginProfile(cdp);
  const [before, from] = [await page.evaluate(() => bench.seen()), await metricsOf(cdp)];
  await sleep(ms);
  const [to, after] = [await metricsOf(cdp), await page.evaluate(() => bench.seen())];
  if (file) await endProfile(cdp, file);

  const seconds = to("Timestamp") - from("Timestamp");
  const share = (metric: string) => ((to(metric) - from(metric)) / seconds) * 100;
  costs.busy.push(share("TaskDuration"));
  costs.looks.push(share("LayoutDuration") + share("RecalcStyleDuration"));
  const rate = (of: "revision" | "messages" | "shows") =>
    ((after[of] - before[of]) / (after.at - before.at)) * 1_000;
  costs.updates.push(rate("revision"));
  costs.messages.push(rate("messages"));
  costs.shows.push(rate("shows"));
  costs.longest.push(after.longest);

  await assertArrived(page, await server.call("stop", jobId), subject);
  await server.call("end", jobId);
  await context.close();
}

/** Everything that the page shows is the last state that was published. */
async function assertArrived(page: Page, revision: number, subject: string): Promise<void> {
  const arrived = (revision: number) => bench.seen().oldest === revision;
  await page.waitForFunction(arrived, revision, { timeout: PATIENCE_MS }).catch(async () => {
    const { oldest } = await page.evaluate(() => bench.seen());
    throw new Error(`${subject}: ${revision} was published, the page shows ${oldest}.`);
  });
}

async function metricsOf(cdp: CDPSession): Promise<(name: string) => number> {
  const { metrics } = await cdp.send("Performance.getMetrics");
  const values = new Map(metrics.map(({ name, value }) => [name, value]));
  return (name) => {
    const value = values.get(name);
    if (value === undefined) throw new Error(`The browser does not measure ${name}.`);
    return value;
  };
}

async function beginProfile(cdp: CDPSession): Promise<void> {
  await cdp.send("Profiler.enable");
  await cdp.send("Profiler.setSamplingInterval", { interval: 200 });
  await cdp.send("Profiler.start");
}

async function endProfile(cdp: CDPSession, file: string): Promise<void> {
  const { profile } = await cdp.send("Profiler.stop");
  writeFileSync(file, JSON.stringify(profile));
}
