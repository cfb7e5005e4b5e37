import { clip, widthOf } from "./text.js";

/** Select Graphic Rendition: what turns a format on, what turns it off. */
const codes = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;

export type Format = keyof typeof codes;

/** Words in a format; without one as the terminal has it. */
export type Span = readonly [text: string, format?: Format | undefined];

function paint([text, format]: Span, colors: boolean): string {
  if (!colors || format === undefined || text === "") return text;
  const [on, off] = codes[format];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}

/** One line of at most `width` columns. */
export function line(spans: readonly Span[], width: number, colors: boolean): string {
  let room = width;
  let painted = "";
  for (const [text, format] of spans) {
    const shown = clip(text, room);
    painted += paint([shown, format], colors);
    room -= widthOf(shown);
    if (shown !== text) break;
  }
  return painted;
}
