import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as core from "@org/workflow-monitor";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => readFileSync(root + path, "utf8");

test("the README's quickstart is the one that runs in CI, and is short", () => {
  const quickstart = read("examples/quickstart.ts");
  expect(read("README.md")).toContain(`\`\`\`ts\n${quickstart}\`\`\``);
  expect(quickstart.trimEnd().split("\n").length).toBeLessThanOrEqual(20);
});

test("the example of the hooks is the one that is type-checked", () => {
  const example = read("examples/react.tsx");
  expect(read("packages/client/README.md")).toContain(`\`\`\`tsx\n${example}\`\`\``);
});

test("the README shows both commands", () => {
  expect(read("README.md")).toContain("npm run demo");
  expect(read("README.md")).toContain("npm test");
});

test("the README names every option and every limit", () => {
  const readme = read("README.md");
  const sources = { monitor: "WorkflowMonitorOptions", limits: "Limits" };
  for (const [file, name] of Object.entries(sources)) {
    const source = read(`packages/core/src/${file}.ts`);
    const body = source.slice(source.indexOf(`export interface ${name} {`)).split("\n}")[0] ?? "";
    for (const [, option] of body.matchAll(/^ {2}(\w+)\??:/gm))
      expect(readme).toContain(`\`${option}\``);
  }
});

test("links between documents lead somewhere", () => {
  const documents = [
    "README.md",
    "ARCHITECTURE.md",
    "PROTOCOL.md",
    "CONTRIBUTING.md",
    "docs/SPEC.md",
    "docs/scaling.md",
    "examples/multi-node/README.md",
  ];
  for (const name of documents) {
    for (const [, link = ""] of read(name).matchAll(/\]\((?!http)([^)#]+)/g)) {
      const base = name.includes("/") ? name.slice(0, name.lastIndexOf("/") + 1) : "";
      expect(() => readFileSync(root + base + link), `${name} → ${link}`).not.toThrow(/ENOENT/);
    }
  }
});

test("every decision is numbered and says what and why", () => {
  const names = readdirSync(`${root}docs/adr`).sort();
  names.forEach((name, index) => {
    expect(name).toMatch(new RegExp(`^${String(index + 1).padStart(4, "0")}-[a-z0-9-]+\\.md$`));
    const text = read(`docs/adr/${name}`);
    for (const part of ["**Context.**", "**Decision.**", "**Consequences.**"])
      expect(text).toContain(part);
  });
});

test("what the README imports is exported", () => {
  for (const name of ["createWorkflowMonitor", "createEngine", "allowAll", "memoryStore"]) {
    expect(core).toHaveProperty(name);
  }
});
