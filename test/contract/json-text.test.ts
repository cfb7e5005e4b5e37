import fc from "fast-check";
import { expect, test } from "vitest";
import { elements, members } from "../../packages/core/src/testing/json-text.js";

const RUNS = { seed: 20_260_101, numRuns: 500 };
const keys = fc.oneof(fc.string(), fc.constantFrom('"', "\\", '\\"', "event", "é😀", "{", "],"));
const values = fc.oneof(fc.jsonValue(), fc.constantFrom('a"b', "\\", '\\\\"', "[{]}"));
const spaces = fc.constantFrom(undefined, 1, "\t");

test("every member of an object is found, as it stands there", () => {
  fc.assert(
    fc.property(fc.dictionary(keys, values), spaces, (object, space) => {
      const text = JSON.stringify(object, null, space);
      const found = members(text);
      expect([...found.keys()].sort()).toEqual(Object.keys(JSON.parse(text) as object).sort());
      for (const [key, value] of found) {
        expect(text).toContain(value);
        expect(JSON.stringify(JSON.parse(value))).toBe(JSON.stringify(object[key]));
      }
    }),
    RUNS,
  );
});

test("every element of an array is found, as it stands there", () => {
  fc.assert(
    fc.property(fc.array(values), spaces, (array, space) => {
      const found = elements(JSON.stringify(array, null, space));
      expect(found.map((text) => JSON.stringify(JSON.parse(text)))).toEqual(
        array.map((value) => JSON.stringify(value)),
      );
    }),
    RUNS,
  );
});

test("the text keeps its escapes and its spaces", () => {
  const text = '{ "event" : {"a":"\\u00e9 \\" \\\\", "b" : [1 , 2]} ,"job":1e2}';
  expect(Object.fromEntries(members(text))).toEqual({
    event: '{"a":"\\u00e9 \\" \\\\", "b" : [1 , 2]}',
    job: "1e2",
  });
});

test.each([
  "",
  "{",
  '{"a"',
  '{"a":',
  '{"a":1',
  '{"a":1,',
  '{"a":[1}',
  '{"a":"b',
  '{"a":1} x',
  "[1]",
])("%s is no object", (text) => {
  expect(() => members(text)).toThrow(SyntaxError);
});

test.each(["", "[", "[1", "[1,", '["a]', "[{]", "[1] 2", "{}"])("%s is no array", (text) => {
  expect(() => elements(text)).toThrow(SyntaxError);
});
