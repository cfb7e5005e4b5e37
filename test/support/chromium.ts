import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const isMissing = !existsSync(EXECUTABLE);

/** Whether to leave out what needs a browser: never where REQUIRE_SERVICES is set. */
export const withoutBrowser = isMissing && process.env.REQUIRE_SERVICES !== "1";
if (withoutBrowser) {
  console.warn(`SKIPPED: no browser at ${EXECUTABLE}. Set CHROMIUM, or: apt-get install chromium`);
}

export const launchBrowser = (): Promise<Browser> =>
  chromium.launch({
    executablePath: EXECUTABLE,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
