import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { FastifyInstance } from "fastify";

interface PageFile {
  type: string;
  body: string | Uint8Array;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The files of the page by their path: what is written in TypeScript is bundled, as a build tool would. */
async function bundlePage(): Promise<ReadonlyMap<string, PageFile>> {
  const { outputFiles } = await build({
    entryPoints: {
      app: here("public/app.ts"),
      "layout-worker": "@org/workflow-monitor-elements/layout-worker",
    },
    outdir: here("public"),
    absWorkingDir: here("."),
    tsconfig: here("../../tsconfig.json"),
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
    logLevel: "error",
  });
  const files = new Map<string, PageFile>();
  for (const { path, contents } of outputFiles) {
    files.set(`/${basename(path)}`, { type: "text/javascript", body: contents });
  }
  files.set("/", { type: "text/html", body: await readFile(here("public/index.html")) });
  files.set("/style.css", { type: "text/css", body: await readFile(here("public/style.css")) });
  return files;
}

/** Serves the page at `/`. `connectsTo`: further sources, as in a content security policy, that it may watch. */
export async function servePage(
  app: FastifyInstance,
  { connectsTo = [] }: { connectsTo?: readonly string[] } = {},
): Promise<void> {
  const connect = ["'self'", ...connectsTo].join(" ");
  const policy = `default-src 'self'; connect-src ${connect}; img-src data:`;
  for (const [path, { type, body }] of await bundlePage()) {
    app.get(path, async (_request, reply) => {
      reply.header("content-security-policy", policy);
      return reply.type(`${type}; charset=utf-8`).send(body);
    });
  }
}
