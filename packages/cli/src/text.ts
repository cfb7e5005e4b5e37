import { stripVTControlCharacters } from "node:util";
import stringWidth from "string-width";

/** More than any text of a job has (SPEC R12, R13); what a hostile server sends beyond it is not looked at. */
const LONGEST = 2_500;

/**
 * A text of a job as one line that a terminal only shows: no escape sequences, no control characters
 * (C0, DEL, C1), nothing that turns the direction of writing, no line breaks.
 */
export function printable(text: string): string {
  return (
    stripVTControlCharacters(text.slice(0, LONGEST))
      .replace(/\s+/gu, " ")
      // Last, for removing one thing may make another of its neighbours. The joiners (ZWNJ, ZWJ) stay: scripts and
      // emoji are written with them.
      .replace(/[\p{Cc}\u2028\u2029]|(?![\u200c\u200d])\p{Cf}/gu, "")
      .trim()
  );
}

/** How many columns a printable text takes. */
export const widthOf = (text: string): number => stringWidth(text);

const graphemes = new Intl.Segmenter();

/** The text in at most `width` columns; what does not fit is cut, and `…` says so. */
export function clip(text: string, width: number): string {
  if (width <= 0) return "";
  if (widthOf(text) <= width) return text;
  let kept = "";
  let used = 1; // for the …
  for (const { segment } of graphemes.segment(text)) {
    used += widthOf(segment);
    if (used > width) break;
    kept += segment;
  }
  return `${kept}…`;
}

/** The text in exactly `width` columns, cut or filled up with spaces. */
export function column(text: string, width: number): string {
  const cut = clip(text, width);
  return cut + " ".repeat(Math.max(0, width - widthOf(cut)));
}
