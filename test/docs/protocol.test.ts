import { readFileSync } from "node:fs";
import { CloseCode, refusals, SUBPROTOCOL, TOKEN_PROTOCOL } from "@org/workflow-monitor";
import { expect, test } from "vitest";

const document = readFileSync(new URL("../../PROTOCOL.md", import.meta.url), "utf8");

/** The cells of each row of the table under a header that begins like this, without backticks. */
function table(header: string): string[][] {
  const lines = document.slice(document.indexOf(`| ${header}`)).split("\n");
  const end = lines.findIndex((line) => !line.startsWith("|"));
  return lines.slice(2, end).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}

test("PROTOCOL.md has the close codes of the code", () => {
  const documented = table("code | name").map(([code, name]) => [name, Number(code)]);
  expect(Object.fromEntries(documented)).toEqual({ ...CloseCode });
});

test("PROTOCOL.md has the error codes that viewers may get, as the code answers them", () => {
  const publishersOnly = ["refused", "shortened", "overloaded", "conflict", "closed"];
  const viewers = Object.entries(refusals)
    .filter(([code]) => !publishersOnly.includes(code))
    .map(([code, { httpStatus, close, retryable }]) => [
      code,
      String(httpStatus),
      String(close),
      retryable ? "yes" : "no",
    ]);
  expect(table("code | HTTP").sort()).toEqual(viewers.sort());
});

test("PROTOCOL.md shows every frame type, each with a sample that is one", () => {
  const types = table("type | when").map(([type]) => type);
  expect(types).toEqual(["snapshot", "update", "heartbeat", "end", "error"]);
  for (const type of types) expect(document).toContain(`{"type":"${type}"`);
});

test("PROTOCOL.md names the subprotocols", () => {
  for (const name of [SUBPROTOCOL, TOKEN_PROTOCOL]) expect(document).toContain(`\`${name}\``);
});
