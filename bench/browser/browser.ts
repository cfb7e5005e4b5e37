import { existsSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { type Browser, chromium } from "playwright-core";
import { here } from "../settings.js";

/** A real browser, and the page that it opens. */

/** Throws, with what to do, when there is none. */
export function launchBrowser(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) {
    throw new Error(
      `There is no browser at ${executablePath}: set CHROMIUM to where it is, or leave this out with --only.`,
    );
  }
  const args = ["--no-sandbox", "--disable-gpu", "--no-first-run"];
  return chromium.launch({
    executablePath,
    args: [...args, "--disable-background-networking", "--disable-component-update"],
  });
}

/** Bundles the page and the worker that lays graphs out; resolves to their directory. `readable`: with its names. */
export async function bundlePage(readable: boolean): Promise<string> {
  const root = join(here, "..");
  const outdir = join(here, "dist", "page");
  await build({
    entryPoints: {
      page: join(here, "browser", "page.ts"),
      "layout-worker": join(root, "packages", "elements", "src", "layout-worker.ts"),
    },
    outdir,
    bundle: true,
    minify: !readable,
    splitting: true,
    format: "esm",
    platform: "browser",
    logLevel: "error",
    tsconfig: join(root, "tsconfig.json"),
  });
  return outdir;
}
