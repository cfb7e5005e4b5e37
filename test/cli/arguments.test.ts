import { describe, expect, test } from "vitest";
import { parseArguments } from "../../packages/cli/src/arguments.js";

const parse = (line: string, env: NodeJS.ProcessEnv = {}) =>
  parseArguments(line.split(" ").filter(Boolean), env);

const origin = "http://localhost:3000";
const paths = { jobs: "/jobs", ws: "/ws" };

describe("watch", () => {
  test("takes a url and a job", () => {
    expect(parse(`watch ${origin} 42`)).toEqual({
      name: "watch",
      origin,
      paths,
      jobId: "42",
      json: false,
      noColor: false,
    });
  });

  test.each([
    [`${origin}/ 42`, paths, "42"],
    [`${origin}/jobs/42`, paths, "42"],
    [`${origin}/jobs/a%2Fb/`, paths, "a/b"],
    [`${origin}/monitor 42`, { jobs: "/monitor/jobs", ws: "/monitor/ws" }, "42"],
    [`${origin}/monitor/jobs/42`, { jobs: "/monitor/jobs", ws: "/monitor/ws" }, "42"],
    [`${origin}/builds/42`, { jobs: "/builds", ws: "/ws" }, "42"],
    [
      `${origin} 42 --jobs-path api/jobs --ws-path /live/`,
      { jobs: "/api/jobs", ws: "/live" },
      "42",
    ],
    [`${origin}/api/jobs/42 --jobs-path /api/jobs`, { jobs: "/api/jobs", ws: "/api/ws" }, "42"],
    [`${origin} -- -1`, paths, "-1"],
  ])("%s", (line, expected, jobId) => {
    expect(parse(`watch ${line}`)).toMatchObject({ origin, paths: expected, jobId });
  });

  test("takes its options", () => {
    const line = `watch ${origin} 42 --json --no-color --transport sse --after k3x9q0a7mw2c.18`;
    expect(parse(`${line} --token secret`)).toMatchObject({
      json: true,
      noColor: true,
      transport: "sse",
      after: "k3x9q0a7mw2c.18",
      token: "secret",
    });
  });

  test("takes the token and NO_COLOR from the environment", () => {
    const env = { WORKFLOW_MONITOR_TOKEN: "secret", NO_COLOR: "1" };
    expect(parse(`watch ${origin} 42`, env)).toMatchObject({ token: "secret", noColor: true });
    expect(parse(`watch ${origin} 42 --token other`, env)).toMatchObject({ token: "other" });
  });
});

test("list takes its options", () => {
  expect(parse(`list ${origin}`)).toMatchObject({ name: "list", origin, paths, limit: 50 });
  expect(parse(`list ${origin} --status failed --label team:a:b --limit 7 --json`)).toMatchObject({
    status: "failed",
    label: "team:a:b",
    limit: 7,
    json: true,
  });
});

test("--help and --version win over anything else", () => {
  expect(parse("watch --help")).toEqual({ name: "help" });
  expect(parse("-h")).toEqual({ name: "help" });
  expect(parse("nonsense --version")).toEqual({ name: "version" });
});

test.each([
  ["", "A command is missing: watch or list."],
  ["wathc", "There is no command wathc: watch or list."],
  ["watch", "watch needs the url of a server."],
  [`watch ${origin}`, `A job's id is missing: watch <url> <jobId>, or ${origin}/jobs/<jobId>.`],
  [`watch ${origin}/42`, `A job's id is missing: watch <url> <jobId>, or ${origin}/jobs/<jobId>.`],
  [
    `watch ${origin}/x/42 --jobs-path /jobs`,
    `A job's id is missing: watch <url> <jobId>, or ${origin}/jobs/<jobId>.`,
  ],
  [`watch ${origin} 42 43`, "43 is one argument too many."],
  [`list ${origin} 42`, "42 is one argument too many."],
  [
    "watch localhost:3000 42",
    "localhost:3000 is not the url of a server, like http://localhost:3000.",
  ],
  ["list nowhere", "nowhere is not the url of a server, like http://localhost:3000."],
  ["list http://a:b@host", "A url with a password is not taken: set WORKFLOW_MONITOR_TOKEN."],
  [`watch ${origin}/jobs/%zz`, "%zz is not a job's id: its percent-encoding is broken."],
  [`watch ${origin} 42 --transport tcp`, "--transport is one of ws, sse, poll, not tcp."],
  [`watch ${origin} 42 --after 18`, "--after is a cursor like k3x9q0a7mw2c.18, not 18."],
  [`watch ${origin} 42 --limit 3`, "watch does not take --limit."],
  [`list ${origin} --after 18`, "list does not take --after."],
  [`list ${origin} --limit 0`, "--limit is a whole number from 1, not 0."],
  [`list ${origin} --label team`, "--label is key:value, not team."],
  [`list ${origin} --colour`, "Unknown option '--colour'."],
])("usage error: %s", (line, sentence) => {
  expect(() => parse(line)).toThrow(sentence);
});
