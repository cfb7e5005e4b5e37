import { expect, test } from "vitest";
import { jsonLine, jsonView } from "../../packages/cli/src/render-json.js";
import { HOSTILE, job, jobAfter, live, lost, plan, sink, stage } from "./given.js";

test("a watch is one JSON object a line: the state it begins with, events, connections, the end", () => {
  const output = sink();
  const view = jsonView(output);
  const first = jobAfter(plan(["build"]));
  const event = stage("build", { status: "completed" });
  const last = jobAfter(plan(["build"]), event);
  view.connection(live);
  view.change(first, { resumed: false });
  view.event(event, { cursor: "k3x9q0a7mw2c.2" });
  view.change(last, { resumed: true });
  view.connection(lost("The line was cut.", 0));
  view.connection(lost("The line was cut.", 0));
  view.done(last);
  expect(output.lines.map((line) => JSON.parse(line))).toEqual([
    { type: "connection", ...live },
    { type: "snapshot", job: first },
    { type: "event", cursor: "k3x9q0a7mw2c.2", event },
    {
      type: "connection",
      state: "reconnecting",
      transport: "ws",
      cause: { code: "unreachable", message: "The line was cut." },
      retryAt: "1970-01-01T00:00:00.000Z",
      stale: false,
    },
    { type: "end", job: last },
  ]);
});

test.each(HOSTILE)("hostile text is the same value, and no control character: %j", (name) => {
  const line = jsonLine(jobAfter(plan([], { name }), job({ message: name })));
  expect(line.slice(0, -1)).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
  expect(JSON.parse(line)).toMatchObject({ name, message: name });
});
