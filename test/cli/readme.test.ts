import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ExitCode } from "../../packages/cli/src/exit-codes.js";
import { usage } from "../../packages/cli/src/usage.js";

const readme = readFileSync(new URL("../../packages/cli/README.md", import.meta.url), "utf8");
const source = readFileSync(
  new URL("../../packages/cli/src/arguments.ts", import.meta.url),
  "utf8",
);

test("the README and --help name every option", () => {
  const body = /const options = \{(.*?)\} as const/s.exec(source)?.[1] ?? "";
  const options = [...body.matchAll(/"?([\w-]+)"?: \{/g)].map(([, name]) => `--${name}`);
  expect(options.length).toBeGreaterThan(10);
  for (const option of options) {
    expect(readme).toContain(`\`${option}`);
    expect(usage).toContain(option);
  }
});

test("the README names every exit code", () => {
  const section = readme.slice(readme.indexOf("## Exit codes"), readme.indexOf("## `--json`"));
  for (const code of Object.values(ExitCode)) expect(section).toMatch(new RegExp(`\\b${code}\\b`));
});
