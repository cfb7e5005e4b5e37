import fc from "fast-check";
import { expect, test } from "vitest";
import { createEventParser } from "../../packages/client/src/event-stream.js";
import { startServer } from "../support/server.js";

/** What is told of a stream that comes in these parts: data as text, `retry` as a number, in order. */
function read(parts: readonly string[]): (string | number)[] {
  const told: (string | number)[] = [];
  const tell = (each: string | number) => void told.push(each);
  const parse = createEventParser(tell, tell);
  for (const part of parts) parse(part);
  return told;
}

/** A text cut anywhere, empty parts among them. */
const anySplit = (text: string): fc.Arbitrary<string[]> =>
  fc.array(fc.nat({ max: text.length }), { maxLength: 12 }).map((cuts) => {
    const places = [0, ...cuts.sort((a, b) => a - b), text.length];
    return places.slice(1).map((end, i) => text.slice(places[i], end));
  });

const anyJson = fc.json();
const anyBlock: fc.Arbitrary<{ lines: string[]; tells: (string | number)[] }> = fc.oneof(
  anyJson.map((data) => ({
    lines: ["event: update", "id: k3x9q0a7mw2c.1", `data: ${data}`],
    tells: [data],
  })),
  anyJson.map((data) => ({ lines: [`data:${data}`], tells: [data] })),
  fc.nat().map((ms) => ({ lines: [`retry: ${ms}`], tells: [ms] })),
  fc
    .constantFrom(": a comment", ":", "", "color: red", "data", "database: 1", " data: 1")
    .map((line) => ({
      lines: [line],
      tells: [],
    })),
);

const RUNS = { seed: 20_260_502, numRuns: 300 };

test.each([
  ["LF", "\n"],
  ["CRLF", "\r\n"],
])("each event is told once, whatever the parts that its text comes in: %s", (_, eol) => {
  const anyStream = fc.array(anyBlock, { maxLength: 8 }).chain((blocks) => {
    const text = blocks.map(({ lines }) => [...lines, "", ""].join(eol)).join("");
    const tells = blocks.flatMap((block) => block.tells);
    return fc.tuple(anySplit(text), fc.constant(tells));
  });
  fc.assert(
    fc.property(anyStream, ([parts, tells]) => {
      expect(read(parts)).toEqual(tells);
    }),
    RUNS,
  );
});

test("one character at a time makes no difference", () => {
  const text =
    'retry: 1845\r\n\r\nevent: snapshot\r\ndata: {"a":"b: c"}\r\n\r\n: hi\n\ndata: 2\n\n';
  expect(read([...text])).toEqual([1_845, '{"a":"b: c"}', "2"]);
});

test("a line that has not ended tells nothing yet", () => {
  expect(read(["data: 1\n\nda", "ta: {"])).toEqual(["1"]);
});

test("one space after the colon is none of the data, a second one is", () => {
  expect(read(["data:  x\n\n", "data:x\n\n", "data:\n\n"])).toEqual([" x", "x", ""]);
});

test("separators of lines that JSON texts may hold end none here", () => {
  const data = JSON.stringify("a\u2028b\u2029c\u0085d\vx\f");
  expect(read([`data: ${data}\n\n`])).toEqual([data]);
});

test("a retry that is no whole number is ignored", () => {
  expect(read(["retry: soon\n\nretry:\n\nretry: -1\n\nretry: 1.5\n\nretry: 7\n\n"])).toEqual([7]);
});

test("a frame of 4 MiB in parts of 1 KiB comes whole", () => {
  const data = JSON.stringify({ text: "x".repeat(4 * 1024 * 1024) });
  const text = `event: snapshot\ndata: ${data}\n\n`;
  const parts = Array.from({ length: Math.ceil(text.length / 1_024) }, (_, i) =>
    text.slice(i * 1_024, (i + 1) * 1_024),
  );
  const told = read(parts);
  expect(told.length === 1 && told[0] === data).toBe(true);
});

test("what our server writes is read as it was written", async () => {
  const server = await startServer();
  await server.monitor.publish({
    type: "job",
    jobId: "a",
    status: "completed",
    message: "é\n\r💚",
  });
  const response = await fetch(`http://127.0.0.1:${server.port}/jobs/a/events`, {
    headers: { accept: "text/event-stream" },
  });
  const [retry, ...frames] = read([await response.text()]);
  expect(retry).toBeTypeOf("number");
  expect(frames.map((data) => JSON.parse(data as string))).toMatchObject([
    { type: "snapshot", jobId: "a", job: { message: "é\n\r💚" } },
    { type: "end", jobId: "a", status: "completed" },
  ]);
});
