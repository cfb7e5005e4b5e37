import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const packages = fileURLToPath(new URL("../../packages", import.meta.url));
const core = join(packages, "core", "src");

interface SourceFile {
  /** Absolute. */
  path: string;
  /** From `packages`: `core/src/engine.ts`. */
  name: string;
  /** The folder below `packages`. */
  owner: string;
  /** Every module it names: imports, re-exports, `import()`, types too; in order. */
  imports: string[];
  statements: readonly ts.Statement[];
}

function read(path: string): SourceFile {
  const text = readFileSync(path, "utf8");
  const name = relative(packages, path).split(sep).join("/");
  return {
    path,
    name,
    owner: name.split("/")[0] ?? "",
    imports: ts.preProcessFile(text).importedFiles.map((file) => file.fileName),
    statements: ts.createSourceFile(path, text, ts.ScriptTarget.Latest).statements,
  };
}

const sources = readdirSync(packages)
  .flatMap((owner) => {
    const src = join(packages, owner, "src");
    return readdirSync(src, { recursive: true, encoding: "utf8" }).map((file) => join(src, file));
  })
  .filter((path) => /\.tsx?$/.test(path))
  .map(read);
const ofCore = sources.filter((source) => source.owner === "core");
const siblings = sources.filter((source) => source.owner !== "core");

const isRelative = (module: string) => module.startsWith(".");
const target = (source: SourceFile, module: string) =>
  resolve(dirname(source.path), module.replace(/\.js$/, ".ts"));

/** `file → module` of every import that `wrong` finds fault with. */
function faults(files: SourceFile[], wrong: (module: string, source: SourceFile) => boolean) {
  return files.flatMap((source) =>
    source.imports
      .filter((module) => wrong(module, source))
      .map((module) => `${source.name} → ${module}`),
  );
}

describe("who may import whom", () => {
  test("core imports no transport, no sibling and no package but its emitter", () => {
    const allowed = /^(eventemitter3|typed-emitter|node:(?!https?$|http2$|net$|tls$|dgram$).+)$/;
    expect(faults(ofCore, (module) => !isRelative(module) && !allowed.test(module))).toEqual([]);
  });

  test("only core/src/engine.ts imports an emitter", () => {
    const emitter = /^(eventemitter3|typed-emitter|(node:)?events)$/;
    const importers = sources.filter((source) => source.imports.some((m) => emitter.test(m)));
    expect(importers.map((source) => source.name)).toEqual(["core/src/engine.ts"]);
  });

  test("nobody reaches into another package's folder", () => {
    const outside = (module: string, source: SourceFile) =>
      isRelative(module) &&
      !target(source, module).startsWith(join(packages, source.owner, "src") + sep);
    expect(faults(sources, outside)).toEqual([]);
  });

  test("siblings import core by its package name; each other never, but viewers the client", () => {
    const coreName = /^@org\/workflow-monitor(\/(protocol|testing))?$/;
    const client = (module: string, { owner }: SourceFile) =>
      module === "@org/workflow-monitor-client" && ["elements", "cli"].includes(owner);
    expect(
      faults(
        siblings,
        (module, source) =>
          module.startsWith("@org/") && !coreName.test(module) && !client(module, source),
      ),
    ).toEqual([]);
  });
});

describe("what a source file may hold", () => {
  const holders = (wrong: (statement: ts.Statement) => boolean) =>
    sources.filter((source) => source.statements.some(wrong)).map((source) => source.name);

  test("`export *` appears nowhere", () => {
    const exportsAll = (statement: ts.Statement) =>
      ts.isExportDeclaration(statement) &&
      (!statement.exportClause || ts.isNamespaceExport(statement.exportClause));
    expect(holders(exportsAll)).toEqual([]);
  });

  test("`enum` appears nowhere", () => {
    expect(holders(ts.isEnumDeclaration)).toEqual([]);
  });
});

describe("layout is the architecture", () => {
  const byPath = new Map(ofCore.map((source) => [source.path, source]));
  const index = byPath.get(join(core, "index.ts"));
  if (!index) throw new Error("packages/core/src/index.ts is missing");
  // Files that export nothing are named in comments.
  const named = readFileSync(index.path, "utf8").matchAll(/\.\/[\w-]+\.js/g);
  const order = [...new Set([...named].map(([module]) => target(index, module)))];

  /** The files that one file imports; one that index.ts does not name stands for its own imports. */
  function reaches(source: SourceFile, seen = new Set<string>()): string[] {
    return source.imports.filter(isRelative).flatMap((module) => {
      const path = target(source, module);
      if (order.includes(path)) return [path];
      if (seen.has(path)) return [];
      seen.add(path);
      const next = byPath.get(path);
      return next ? reaches(next, seen) : [];
    });
  }

  test("index.ts names every file of the core", () => {
    const apart = ["index.ts", "protocol-entry.ts"];
    const files = ofCore
      .map(({ path }) => relative(core, path))
      .filter((name) => !name.includes(sep));
    const names = order.map((path) => relative(core, path));
    expect([...names, ...apart].sort()).toEqual(files.sort());
  });

  test.each(order.map((path, place) => [basename(path), place] as const))(
    "%s imports only what stands above it in index.ts",
    (_, place) => {
      const source = byPath.get(order[place] ?? "");
      const below = source ? reaches(source).filter((path) => order.indexOf(path) >= place) : [];
      expect(below.map((path) => relative(core, path))).toEqual([]);
    },
  );
});
