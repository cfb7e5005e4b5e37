import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Nothing inline: what a careful page allows. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws:; worker-src 'self'; img-src data:";

const STYLE = `
  :root { color-scheme: light dark; background: light-dark(#f6f8fa, #0d1117); }
  body { display: grid; gap: 1rem; max-width: 64rem; margin: 1.5rem auto; padding: 0 1rem; }
  body.narrow { max-width: 23rem; margin: 0.5rem auto; padding: 0 0.5rem; }
`;

/** Bundles the elements, and the worker beside them, as a page would. */
export async function bundle(): Promise<{ directory: string; remove(): void }> {
  const directory = mkdtempSync(join(tmpdir(), "workflow-monitor-elements-"));
  await build({
    entryPoints: {
      elements: join(root, "packages/elements/src/index.ts"),
      "layout-worker": join(root, "packages/elements/src/layout-worker.ts"),
    },
    outdir: directory,
    bundle: true,
    minify: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    logLevel: "error",
    tsconfig: join(root, "tsconfig.json"),
  });
  return { directory, remove: () => rmSync(directory, { recursive: true }) };
}

const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>elements</title>
<link rel="stylesheet" href="/style.css"><script type="module" src="/elements.js"></script><body></body></html>`;

/** Answers with the page and the bundle in `directory`. */
export async function answer(path: string, directory: string) {
  const headers = { "content-security-policy": POLICY };
  if (path === "/") return { type: "text/html", body: page, headers };
  if (path === "/style.css") return { type: "text/css", body: STYLE, headers };
  if (!/^\/[\w-]+\.js$/.test(path)) return null;
  return { type: "text/javascript", body: await readFile(join(directory, path)), headers };
}
