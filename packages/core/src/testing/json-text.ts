/**
 * The texts of JSON values as they stand in a larger JSON text. Whoever compares bytes cannot take
 * what a parser and a serialiser make of them.
 */

/** The members of an object's text: the text of each value by its key. Throws a SyntaxError for anything else. */
export function members(text: string): Map<string, string> {
  const found = new Map<string, string>();
  const ends = items(text, "{", "}", (at) => {
    const keyEnd = endOfString(text, at);
    const colon = skipSpace(text, keyEnd);
    expectAt(text, colon, ":");
    const start = skipSpace(text, colon + 1);
    const end = endOfValue(text, start);
    found.set(JSON.parse(text.slice(at, keyEnd)) as string, text.slice(start, end));
    return end;
  });
  expectEnd(text, ends);
  return found;
}

/** The texts of an array's elements. Throws a SyntaxError for anything else. */
export function elements(text: string): string[] {
  const found: string[] = [];
  const ends = items(text, "[", "]", (at) => {
    const end = endOfValue(text, at);
    found.push(text.slice(at, end));
    return end;
  });
  expectEnd(text, ends);
  return found;
}

/** Visits what stands between two brackets, separated by commas; returns where the text goes on. */
function items(text: string, open: string, close: string, visit: (at: number) => number): number {
  let at = skipSpace(text, 0);
  expectAt(text, at, open);
  at = skipSpace(text, at + 1);
  if (text[at] === close) return at + 1;
  for (;;) {
    at = skipSpace(text, visit(at));
    if (text[at] === close) return at + 1;
    expectAt(text, at, ",");
    at = skipSpace(text, at + 1);
  }
}

function endOfValue(text: string, start: number): number {
  const first = text[start];
  if (first === '"') return endOfString(text, start);
  if (first === "{" || first === "[") return endOfNested(text, start);
  const primitive = /[-+.\w]+/y;
  primitive.lastIndex = start;
  if (!primitive.test(text)) throw unexpected(text, start);
  return primitive.lastIndex;
}

function endOfNested(text: string, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const char = text[at];
    if (char === '"') at = endOfString(text, at);
    else {
      at += 1;
      if (char === "{" || char === "[") depth += 1;
      else if (char === "}" || char === "]") depth -= 1;
      if (depth === 0) return at;
    }
  }
  throw unexpected(text, at);
}

function endOfString(text: string, start: number): number {
  expectAt(text, start, '"');
  for (
    let quote = text.indexOf('"', start + 1);
    quote !== -1;
    quote = text.indexOf('"', quote + 1)
  ) {
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
  }
  throw unexpected(text, text.length);
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && " \t\n\r".includes(text[at] as string)) at += 1;
  return at;
}

function expectAt(text: string, at: number, char: string): void {
  if (text[at] !== char) throw unexpected(text, at);
}

function expectEnd(text: string, at: number): void {
  const end = skipSpace(text, at);
  if (end < text.length) throw unexpected(text, end);
}

const unexpected = (text: string, at: number): SyntaxError =>
  new SyntaxError(
    at < text.length
      ? `unexpected ${text[at]} at ${at} of the JSON text`
      : "the JSON text is cut off",
  );
