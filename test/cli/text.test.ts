import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clip, column, printable, widthOf } from "../../packages/cli/src/text.js";
import { graphemes, HOSTILE } from "./given.js";

const FORBIDDEN = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/u;

describe("a text of a job", () => {
  test.each(HOSTILE)("is only shown: %j", (text) => {
    expect(printable(text)).not.toMatch(FORBIDDEN);
  });

  test("is only shown, whatever it is made of", () => {
    const pieces = fc.constantFrom(
      ..."\u001b\u009b\u009d[]()0;1mHJ?25l\u0007\u202e\r\n a",
      "\u001b[31m",
    );
    fc.assert(fc.property(fc.array(pieces), (text) => !FORBIDDEN.test(printable(text.join("")))));
  });

  test("keeps what people write", () => {
    expect(printable("  Übung 東京 👩‍👩‍👧  नमस्ते\n2 ")).toBe("Übung 東京 👩‍👩‍👧 नमस्ते 2");
  });
});

describe("a column", () => {
  test.each([
    ["build", 10, "build"],
    ["build", 5, "build"],
    ["build", 4, "bui…"],
    ["build", 1, "…"],
    ["build", 0, ""],
    ["東京都", 6, "東京都"],
    ["東京都", 5, "東京…"],
    ["東京都", 4, "東…"],
  ])("%s fits in %i columns as %j", (text, width, shown) => {
    expect(clip(text, width)).toBe(shown);
  });

  test("has its width, whatever stands in it", () => {
    const text = graphemes.map(printable);
    fc.assert(
      fc.property(text, fc.nat(40), (cell, width) => widthOf(column(cell, width)) === width),
    );
  });
});
