import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import type { JobSnapshot } from "@org/workflow-monitor";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { launchBrowser, withoutBrowser } from "../support/chromium.js";
import {
  completedJob,
  failedJob,
  largeJob,
  looseJob,
  runningJob,
  tangledJob,
} from "../support/jobs.js";
import { answer, bundle } from "../support/page.js";
import { type ServerOptions, startServer } from "../support/server.js";
import { until } from "../support/wait.js";

const TAGS = ["workflow-job", "workflow-graph", "workflow-timeline"] as const;
type Tag = (typeof TAGS)[number];

const artifacts = fileURLToPath(new URL("../../artifacts", import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Look {
  colorScheme?: "light" | "dark";
  forcedColors?: "active" | "none";
  width?: number;
}

describe.skipIf(withoutBrowser)("in a browser, the elements", () => {
  let browser: Browser;
  let bundled: Awaited<ReturnType<typeof bundle>>;
  beforeAll(async () => {
    mkdirSync(artifacts, { recursive: true });
    bundled = await bundle();
    browser = await launchBrowser();
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    bundled?.remove();
  });

  /** A server whose page has the elements, under a strict policy that nothing may violate. */
  async function opened({
    colorScheme = "light",
    forcedColors = "none",
    width = 1_100,
    present,
  }: Look & ServerOptions = {}) {
    const sockets = new Set<Socket>();
    const server = await startServer({
      ...(present && { present }),
      prepare(app) {
        app.server.on("connection", (socket: Socket) => {
          sockets.add(socket);
          socket.once("close", () => sockets.delete(socket));
        });
        for (const path of ["/", "/style.css", "/:file.js"]) {
          app.get(path, async (request, reply) => {
            const found = await answer(request.url, bundled.directory).catch(() => null);
            if (!found) return reply.code(404).send();
            return reply.headers(found.headers).type(found.type).send(found.body);
          });
        }
      },
    });
    const context = await browser.newContext({
      colorScheme,
      forcedColors,
      reducedMotion: "reduce",
      viewport: { width, height: 1_800 },
    });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      if (/content security policy|refused/i.test(message.text())) complaints.push(message.text());
    });
    await page.goto(`http://127.0.0.1:${server.port}/`);
    if (width < 500) await page.evaluate("document.body.className = 'narrow'");
    onTestFinished(async () => {
      await context.close();
      expect(complaints).toEqual([]);
    });
    return {
      server,
      page,
      cut() {
        for (const socket of sockets) socket.destroy();
      },
    };
  }

  /** Puts elements on the page; with a job to show, or with the id of one to watch. */
  const put = (page: Page, tags: readonly Tag[], what: { job: JobSnapshot } | { jobId: string }) =>
    page.evaluate(
      ([what = "", ...tags]) => {
        for (const tag of tags) {
          const element = document.createElement(tag);
          Object.assign(element, JSON.parse(what));
          document.body.append(element);
        }
      },
      [JSON.stringify(what), ...tags],
    );

  /** Shows another state in an element that is there. */
  const give = (page: Page, tag: Tag, job: JobSnapshot) =>
    page.evaluate(
      ([tag = "", job = ""]) => {
        Object.assign(document.querySelector(tag)!, { job: JSON.parse(job) });
      },
      [tag, JSON.stringify(job)],
    );

  describe("<workflow-job>", () => {
    test("shows the job and every stage: status, attempts with durations, message, error", async () => {
      const { page } = await opened();
      await put(page, ["workflow-job"], { job: runningJob() });
      const bar = page.getByRole("progressbar", { name: "Progress of Release 7" });
      expect(await bar.getAttribute("aria-valuenow")).toBe(String(runningJob().progress));
      const stages = page.locator(".stage");
      const texts = (await stages.allInnerTexts()).map((text) => text.replaceAll(/\s+/g, " "));
      expect(texts).toHaveLength(9);
      expect(texts[0]).toBe("Fetch sources 8.4 s completed");
      expect(texts[3]).toBe(
        "Unit tests attempt 2 of 3 28 s 60 % running 212 of 354 tests 1. failed 17 s 2. running 28 s",
      );
      expect(texts[5]).toContain("failed BROKEN_LINK guide/install.md links to setup.md");
      expect(await page.locator('.stage[aria-current="step"] .name').innerText()).toBe(
        "Unit tests",
      );
    });

    test("has each status as a word, with a shape beside it", async () => {
      const { page } = await opened();
      await put(page, ["workflow-job"], { job: failedJob() });
      const shapes = await page.locator(".status .mark").count();
      expect(shapes).toBe(await page.locator(".status").count());
      expect(await page.getByText("skipped (not run)").count()).toBe(3);
    });

    test("says what happens to a screen reader, not each percent", async () => {
      const { page } = await opened();
      await put(page, ["workflow-job"], { job: runningJob() });
      const live = page.locator('[aria-live="polite"]');
      const said = "Release 7: running. Unit tests: running, attempt 2 of 3.";
      await live.filter({ hasText: said }).waitFor({ state: "attached" });
      const { progress, ...job } = runningJob();
      await give(page, "workflow-job", { ...job, progress: progress + 1 });
      await page.locator('[aria-valuenow="51"]').first().waitFor();
      expect(await live.textContent()).toBe(said);
    });
  });

  describe("[S6] [R16] a job in a shape of the host's own", () => {
    test.each(TAGS)("is shown by %s as far as the shape tells it, to its end", async (tag) => {
      const { page, server } = await opened({
        present: ({ status, stages }) => ({
          status,
          stages: stages.map(({ stage, status }) => ({ stage, status })),
        }),
      });
      const stages = [{ stage: "build" }, { stage: "test" }];
      await server.monitor.publish({ type: "plan", jobId: "42", stages });
      await put(page, [tag], { jobId: "42" });
      await page.getByText("build").first().waitFor();
      server.engine.emit("stage", { jobId: "42", stage: "build", status: "running" });
      await page.getByText("running").first().waitFor({ state: "attached" });
      server.engine.emit("job", { jobId: "42", status: "failed" });
      await page.getByText("Ended").first().waitFor({ state: "attached" });
      expect(await page.locator(tag).innerText()).not.toMatch(/undefined|NaN|null/);
    });

    test.each(TAGS)("cannot be shown by %s without a status, which says so", async (tag) => {
      const { page, server } = await opened({ present: ({ status }) => ({ state: status }) });
      await server.monitor.publish({ type: "job", jobId: "42", status: "running" });
      await put(page, [tag], { jobId: "42" });
      await page.locator(tag).locator(".error").getByText("shape of its own").waitFor();
      await until("nobody watches", () => server.monitor.stats().viewers.ws === 0);
    });
  });

  test("a list of many stages scrolls, to the current one", async () => {
    const { page } = await opened();
    await put(page, ["workflow-job", "workflow-timeline"], { job: largeJob(500) });
    for (const row of [".stage", ".row"]) {
      const current = page.locator(`${row}[aria-current="step"]`);
      await current.waitFor();
      await page.waitForFunction((row) => {
        for (const tag of ["workflow-job", "workflow-timeline"]) {
          const found = document
            .querySelector(tag)
            ?.shadowRoot?.querySelector(`${row}[aria-current]`);
          const view = found?.closest(".many, .view")?.getBoundingClientRect();
          const place = found?.getBoundingClientRect();
          if (view && place) return place.top >= view.top && place.bottom <= view.bottom;
        }
        return false;
      }, row);
    }
  });

  describe("<workflow-graph>", () => {
    const nodesOf = (page: Page) =>
      page.locator(".node").evaluateAll((nodes) =>
        nodes.map((node) => {
          const { x, y, width, height } = node.getBoundingClientRect();
          return { stage: node.getAttribute("data-stage"), x, y, width, height };
        }),
      );

    test.each([
      ["a release", runningJob, 11],
      ["stages that nothing connects", looseJob, 0],
      ["a tangle with a cycle", tangledJob, 4],
    ])("shows %s: every stage, apart from the others, and every edge", async (_, make, edges) => {
      const { page } = await opened();
      await put(page, ["workflow-graph"], { job: make() });
      await page.waitForFunction(() =>
        document.querySelector("workflow-graph")?.shadowRoot?.querySelector(".node"),
      );
      if (edges > 0) await page.locator("[data-laid-out]").waitFor();
      const nodes = await nodesOf(page);
      expect(nodes.map(({ stage }) => stage)).toEqual(make().stages.map(({ stage }) => stage));
      for (const [at, one] of nodes.entries()) {
        for (const other of nodes.slice(at + 1)) {
          const apart =
            one.x + one.width <= other.x ||
            other.x + other.width <= one.x ||
            one.y + one.height <= other.y ||
            other.y + other.height <= one.y;
          expect(apart, `${one.stage} and ${other.stage}`).toBe(true);
        }
      }
      expect(await page.locator(".edge").count()).toBe(edges);
    });

    test("is only restyled when a status changes", async () => {
      const { page } = await opened();
      await put(page, ["workflow-graph"], { job: runningJob() });
      await page.locator("[data-laid-out]").waitFor();
      const [before, element] = [
        await nodesOf(page),
        await page.locator(".node").first().elementHandle(),
      ];
      await give(page, "workflow-graph", completedJob());
      await page.locator('.node[data-stage="notify"][data-status="skipped"]').waitFor();
      expect(await nodesOf(page)).toEqual(before);
      expect(await element?.evaluate((node) => node.isConnected)).toBe(true);
    });

    test("is one stop for the tab key, and arrow keys move inside", async () => {
      const { page } = await opened();
      await put(page, ["workflow-graph"], { job: runningJob() });
      await page.locator("[data-laid-out]").waitFor();
      expect(await page.locator('.node[tabindex="0"]').count()).toBe(1);
      await page.locator('.node[tabindex="0"]').focus();
      await page.keyboard.press("ArrowRight");
      expect(await page.locator(".node:focus").getAttribute("data-stage")).toBe("approve");
      expect(await page.locator(".details").innerText()).toContain("after lint, unit, browser");
      await page.keyboard.press("Home");
      expect(await page.locator(".node:focus").getAttribute("data-stage")).toBe("fetch");
      expect(await page.getByRole("button", { name: /^Unit tests.*after build/ }).count()).toBe(1);
      expect(await page.locator('.node[tabindex="0"]').count()).toBe(1);
    });

    test("shows five hundred stages, the current one in view", async () => {
      const { page } = await opened();
      await put(page, ["workflow-graph"], { job: largeJob(500) });
      await page.locator("[data-laid-out]").waitFor();
      expect(await page.locator(".node").count()).toBe(500);
      const place = await page.evaluate(() => {
        const root = document.querySelector("workflow-graph")?.shadowRoot;
        const view = root?.querySelector(".view")?.getBoundingClientRect();
        const node = root?.querySelector("[aria-current]")?.getBoundingClientRect();
        return view && node && { in: node.top >= view.top && node.bottom <= view.bottom };
      });
      expect(place).toEqual({ in: true });
    });
  });

  describe("<workflow-timeline>", () => {
    test("has a bar for each attempt, and none for what has not begun", async () => {
      const { page } = await opened();
      await put(page, ["workflow-timeline"], { job: runningJob() });
      const of = (stage: string) =>
        page
          .locator(`.row[data-stage="${stage}"] .span:not(.none)`)
          .evaluateAll((bars) =>
            bars.map(
              (bar) => [bar.getAttribute("data-status"), bar.getBoundingClientRect().x] as const,
            ),
          );
      expect((await of("unit")).map(([status]) => status)).toEqual(["failed", "running"]);
      expect((await of("browser")).map(([status]) => status)).toEqual(["waiting"]);
      expect(await of("deploy")).toEqual([]);
      const [first, second] = await of("unit");
      expect(first![1]).toBeLessThan(second![1]);
      expect(await page.locator(".now").count()).toBe(0); // nobody says that time goes on
    });

    test("arrow keys move between attempts and stages", async () => {
      const { page } = await opened();
      await put(page, ["workflow-timeline"], { job: runningJob() });
      await page.locator('.span[tabindex="0"]').focus();
      const label = () => page.locator(".span:focus").getAttribute("aria-label");
      expect(await label()).toMatch(/^Unit tests: running, 60 %, attempt 2 of 3/);
      await page.keyboard.press("ArrowLeft");
      expect(await label()).toBe("Unit tests, attempt 1: failed, 17 s");
      await page.keyboard.press("ArrowDown");
      expect(await label()).toMatch(/^Browser tests: waiting/);
      expect(await page.locator('.span[tabindex="0"]').count()).toBe(1);
    });
  });

  describe("are accessible, whatever they show", () => {
    const jobs = {
      running: runningJob,
      failed: failedJob,
      loose: looseJob,
      large: () => largeJob(60),
    };
    const looks: Record<string, Look> = {
      light: {},
      dark: { colorScheme: "dark" },
      narrow: { width: 390 },
    };
    const cases = Object.keys(jobs).flatMap((job) =>
      Object.keys(looks).map((look) => [job as keyof typeof jobs, look] as const),
    );

    test.each(cases)("a job that is %s, %s", async (name, look) => {
      const { page } = await opened(looks[look]);
      const job = jobs[name]();
      await put(page, TAGS, { job });
      await page.locator(".node").first().waitFor();
      if (name !== "loose") await page.locator("[data-laid-out]").waitFor();
      await page.screenshot({ path: `${artifacts}/${name}-${look}.png`, fullPage: true });
      await page.evaluate(axe);
      const violations = await page.evaluate(async () => {
        const { axe } = globalThis as unknown as { axe: typeof import("axe-core") };
        const found = await axe.run();
        return found.violations
          .filter(({ impact }) => impact === "serious" || impact === "critical")
          .map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`);
      });
      expect(violations).toEqual([]);
    });

    test("with the system's own colours", async () => {
      const { page } = await opened({ forcedColors: "active" });
      await put(page, TAGS, { job: runningJob() });
      await page.locator("[data-laid-out]").waitFor();
      await page.screenshot({ path: `${artifacts}/forced-colors.png`, fullPage: true });
    });
  });

  describe("live", () => {
    const JOB = "42";
    const plan = [{ stage: "build" }, { stage: "test", dependsOn: ["build"] }];
    const keepEvents = (page: Page) =>
      page.evaluate(() => {
        const seen: [string, unknown][] = [];
        for (const type of ["workflow-change", "workflow-done", "workflow-error"] as const) {
          document.addEventListener(type, (event) => {
            seen.push([type, (event as CustomEvent<{ status?: string; code?: string }>).detail]);
          });
        }
        Object.assign(globalThis, { seen });
      });
    const eventsOf = (page: Page, type: string) =>
      page.evaluate(
        (type) =>
          (globalThis as unknown as { seen: [string, { status?: string; code?: string }][] }).seen
            .filter(([name]) => name === type)
            .map(([, detail]) => detail.status ?? detail.code),
        type,
      );

    test("elements with the same url share a connection, which ends with the last of them", async () => {
      const { server, page } = await opened();
      await server.monitor.publish({ type: "plan", jobId: JOB, name: "Release 7", stages: plan });
      await put(page, TAGS, { jobId: JOB });
      await page.locator('.chip[data-state="live"]').nth(2).waitFor();
      expect(server.monitor.stats().viewers).toMatchObject({ ws: 1, sse: 0 });
      expect(await page.locator(".now").count()).toBe(0); // it has not begun
      await server.monitor.publish({
        type: "stage",
        jobId: JOB,
        stage: "build",
        status: "running",
      });
      await page.locator('.node[data-stage="build"][data-status="running"]').waitFor();
      await page.locator('.stage[data-stage="build"][data-status="running"]').waitFor();
      await page.locator(".now").waitFor({ state: "attached" });
      await page.evaluate("document.body.replaceChildren()");
      await until("the viewer is gone", () => server.monitor.stats().viewers.ws === 0);
    });

    test("show what the README's example says", async () => {
      const readme = readFileSync(
        new URL("../../packages/elements/README.md", import.meta.url),
        "utf8",
      );
      const [, example = ""] = /```html\n(.*?)```/s.exec(readme) ?? [];
      const [, markup = ""] = /<\/script>(.*)/s.exec(example) ?? []; // the page has the script
      const { server, page } = await opened();
      await server.monitor.publish({ type: "plan", jobId: "42", name: "Release 7", stages: plan });
      await page.evaluate((markup) => {
        document.body.innerHTML = markup;
      }, markup);
      for (const tag of TAGS) await page.locator(tag).getByText("Release 7").first().waitFor();
    });

    test("tell of changes and of the end, and then nothing moves any more", async () => {
      const { server, page } = await opened();
      await page.evaluate(() => {
        const timers = new Set<number>();
        const [set, clear] = [globalThis.setInterval, globalThis.clearInterval];
        Object.assign(globalThis, {
          timers,
          setInterval: (then: () => void, ms: number) => {
            const timer = set(then, ms) as unknown as number;
            timers.add(timer);
            return timer;
          },
          clearInterval: (timer: number) => {
            timers.delete(timer);
            clear(timer);
          },
        });
      });
      await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
      await keepEvents(page);
      await put(page, ["workflow-job"], { jobId: JOB });
      await page.locator(".status", { hasText: "running" }).waitFor();
      await page.waitForFunction("timers.size === 1"); // time is shown
      await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
      await page.locator('.chip[data-state="ended"]').waitFor();
      expect(await eventsOf(page, "workflow-done")).toEqual(["completed"]);
      expect((await eventsOf(page, "workflow-change")).at(-1)).toBe("completed");
      await page.waitForFunction("timers.size === 0");
    });

    test("render many updates at once", async () => {
      const { server, page } = await opened();
      await server.monitor.publish({ type: "plan", jobId: JOB, stages: plan });
      await keepEvents(page);
      await put(page, ["workflow-job"], { jobId: JOB });
      await page.locator('.chip[data-state="live"]').waitFor();
      const frames = () => page.evaluate<number>("globalThis.frames_ ?? 0");
      await page.evaluate(() => {
        const page = globalThis as unknown as { frames_: number };
        page.frames_ = 0;
        const count = () => {
          page.frames_ += 1;
          requestAnimationFrame(count);
        };
        requestAnimationFrame(count);
      });
      for (let at = 1; at <= 500; at += 1) {
        server.engine.emit("stage", { jobId: JOB, stage: "build", message: `step ${at}` });
        if (at % 25 === 0) await server.settled(JOB);
      }
      await page.getByText("step 500", { exact: true }).waitFor();
      const changes = (await eventsOf(page, "workflow-change")).length;
      expect(changes).toBeLessThanOrEqual((await frames()) + 2);
      expect(changes).toBeLessThan(500);
    });

    test("come back after a cut, with the state that they had until then", async () => {
      const { server, page, cut } = await opened();
      await server.monitor.publish({ type: "plan", jobId: JOB, stages: plan });
      await put(page, ["workflow-job"], { jobId: JOB });
      await page.locator('.chip[data-state="live"]').waitFor();
      await page.evaluate(() => {
        const root = document.querySelector("workflow-job")?.shadowRoot;
        const seen: string[] = [];
        new MutationObserver(() => {
          const chip = root?.querySelector(".chip")?.getAttribute("data-state") ?? "";
          seen.push(`${chip} ${root?.querySelectorAll(".stage").length}`);
        }).observe(root!, {
          subtree: true,
          childList: true,
          attributes: true,
          characterData: true,
        });
        Object.assign(globalThis, { seen });
      });
      cut();
      await server.monitor.publish({
        type: "stage",
        jobId: JOB,
        stage: "build",
        status: "running",
      });
      await page.locator('.stage[data-stage="build"][data-status="running"]').waitFor();
      await page.locator('.chip[data-state="live"]').waitFor();
      const seen = await page.evaluate<string[]>("seen");
      expect(seen.filter((state) => !state.endsWith(" 2"))).toEqual([]);
    });

    test("say why a job cannot be watched", async () => {
      const { page } = await opened();
      await keepEvents(page);
      await put(page, ["workflow-job"], { jobId: "nobody" });
      await page.locator('.chip[data-state="failed"]').waitFor();
      expect(await page.locator(".error").innerText()).toContain("no such job");
      expect(await eventsOf(page, "workflow-error")).toEqual(["unknown_job"]);
    });

    test("show another job when they are told to", async () => {
      const { server, page } = await opened();
      for (const name of ["one", "two"]) {
        await server.monitor.publish({
          type: "plan",
          jobId: name,
          name: `job ${name}`,
          stages: [],
        });
      }
      await put(page, ["workflow-job"], { jobId: "one" });
      await page.getByText("job one", { exact: true }).waitFor();
      await page.evaluate("document.querySelector('workflow-job').setAttribute('job-id', 'two')");
      await page.getByText("job two", { exact: true }).waitFor();
      await until("one is left", () => server.monitor.stats().rooms <= 2);
      expect(await page.getByText("job one", { exact: true }).count()).toBe(0);
    });
  });
});
