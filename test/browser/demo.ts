import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type AddressInfo, connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { launchBrowser, withoutBrowser } from "../support/chromium.js";
import { inTime, until } from "../support/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const artifacts = fileURLToPath(new URL("../../artifacts/", import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A folder whose inventory takes long enough to be seen, and one that takes a moment. */
const LONG = "node_modules";
const SHORT = "packages/core/src";

describe.skipIf(withoutBrowser)("the demo, in a browser", () => {
  let browser: Browser;
  let demo: ChildProcess;
  let url: string;

  beforeAll(async () => {
    mkdirSync(artifacts, { recursive: true });
    demo = spawn(process.execPath, ["--import", "tsx", "examples/demo/server.ts"], {
      cwd: root,
      env: { ...process.env, PORT: "0" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await inTime(
      "the demo",
      once(demo.stdout as NodeJS.ReadableStream, "data"),
      30_000,
    );
    url = String(line).trim();
    browser = await launchBrowser();
  }, 90_000);

  afterAll(async () => {
    await browser?.close();
    demo?.kill("SIGKILL");
  });

  async function openPage(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext(options);
    onTestFinished(() => context.close());
    const page = await context.newPage();
    const faults: string[] = [];
    page.on("pageerror", (error) => faults.push(error.message));
    onTestFinished(() => expect(faults).toEqual([]));
    await page.goto(url);
    return page;
  }

  async function begin(page: Page, folder: string): Promise<void> {
    await page.getByLabel("Folder").fill(folder);
    await page.getByRole("button", { name: "Take inventory" }).click();
  }

  const card = (page: Page) => page.locator("workflow-job");
  const shows = (page: Page, text: string | RegExp) =>
    card(page).getByText(text).first().waitFor({ timeout: 45_000 });
  const live = (page: Page) => card(page).getByText("Live", { exact: true }).waitFor();
  /** The state that the card shows. */
  const stateOf = (page: Page) =>
    page.evaluate(() => document.querySelector("workflow-job")?.snapshot ?? null);

  /** Waits until the job is over, and for how it ended. */
  async function ended(page: Page): Promise<unknown> {
    await page.waitForFunction(
      () => document.querySelector("workflow-job")?.snapshot?.done,
      undefined,
      { timeout: 60_000 },
    );
    return stateOf(page);
  }
  const completed = { status: "completed", progress: 100 };

  async function setLine(page: Page, isUp: boolean): Promise<void> {
    await page.getByLabel("The line to the server").setChecked(isUp);
  }

  async function seriousViolations(page: Page): Promise<unknown[]> {
    await page.evaluate(axe);
    return page.evaluate(async () => {
      const run = (
        globalThis as unknown as {
          axe: { run(): Promise<{ violations: { id: string; impact: string }[] }> };
        }
      ).axe;
      const { violations } = await run.run();
      return violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    });
  }

  test("an inventory is watched as list, graph and timeline, and nothing is asked for after its end", async () => {
    const page = await openPage();
    const sockets: { closed: boolean }[] = [];
    page.on("websocket", (socket) => {
      const entry = { closed: false };
      sockets.push(entry);
      socket.on("close", () => {
        entry.closed = true;
      });
    });
    await begin(page, SHORT);
    expect(await ended(page)).toMatchObject(completed);
    for (const name of [
      "Scan the folder",
      "Hash every file",
      "Find duplicates",
      "Write the report",
    ]) {
      for (const element of ["workflow-job", "workflow-graph", "workflow-timeline"]) {
        await page.locator(element).getByText(name).first().waitFor();
      }
    }
    await until(
      "its one socket is closed",
      () => sockets.length === 1 && sockets[0]?.closed === true,
    );
    const requests: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    await page.waitForTimeout(1_500); // the elements' client lingers for a second
    expect({ sockets: sockets.length, requests }).toEqual({ sockets: 1, requests: [] });
    expect(await page.title()).toBe("completed – Inventory");
  });

  test("a line that is cut is waited for, and what was missed is caught up with", async () => {
    const page = await openPage();
    await begin(page, LONG);
    await live(page);
    const before = (await stateOf(page))?.revision ?? 0;
    await setLine(page, false);
    await shows(page, /Reconnecting/);
    await page.screenshot({ path: `${artifacts}demo-cut.png`, fullPage: true });
    await setLine(page, true);
    await live(page);
    const progressed = async () => ((await stateOf(page))?.revision ?? 0) > before;
    for (let caughtUp = false; !caughtUp; caughtUp = await progressed()) {
      await page.waitForTimeout(20);
    }
    expect(await ended(page)).toMatchObject(completed);
  }, 90_000);

  test("where WebSockets are blocked, the events come as a stream", async () => {
    const blocked = await startBlocker(Number(new URL(url).port));
    const page = await openPage();
    await page.route("**/line", (route) =>
      route.fulfill({ json: { url: `http://127.0.0.1:${blocked}`, isUp: true } }),
    );
    await page.reload();
    await begin(page, LONG);
    await live(page);
    const transport = await page.evaluate(
      () => document.querySelector("workflow-job")?.connection?.transport,
    );
    expect(transport).toBe("sse");
    expect(await ended(page)).toMatchObject(completed);
  }, 90_000);

  test("two windows watch one job, each on its own", async () => {
    const [one, other] = [await openPage(), await openPage()];
    await begin(one, LONG);
    await live(one);
    await other.goto(one.url());
    await live(other);
    await one.close();
    expect(await ended(other)).toMatchObject(completed);
  }, 90_000);

  test.each(["light", "dark"] as const)(
    "it has no serious fault for axe, %s",
    async (colorScheme) => {
      const page = await openPage({ colorScheme, viewport: { width: 1_280, height: 900 } });
      await begin(page, LONG);
      await live(page);
      await page.locator("workflow-graph").getByText("Write the report").first().waitFor();
      await page.screenshot({ path: `${artifacts}demo-${colorScheme}.png`, fullPage: true });
      expect(await seriousViolations(page)).toEqual([]);
      await page.setViewportSize({ width: 390, height: 844 });
      await page.screenshot({ path: `${artifacts}demo-${colorScheme}-narrow.png`, fullPage: true });
      expect(await seriousViolations(page)).toEqual([]);
    },
  );
});

/** A proxy that lets everything through but WebSockets, as some companies' do. */
async function startBlocker(port: number): Promise<number> {
  const server = createServer((viewer) => {
    viewer.on("error", () => {});
    viewer.once("data", (first: Buffer) => {
      if (/^upgrade: *websocket/im.test(first.toString("latin1"))) {
        viewer.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
      }
      const target = connect(port, "127.0.0.1");
      target.on("error", () => viewer.destroy());
      target.on("close", () => viewer.destroy());
      viewer.on("close", () => target.destroy());
      target.write(first);
      viewer.pipe(target).pipe(viewer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}
