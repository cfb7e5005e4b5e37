import type { Codec } from "@org/workflow-monitor";

/** A codec that can be read back. */
export interface ModelCodec extends Codec {
  /** The JSON texts of whole frames; throws when they are not framed as they should be. */
  decode(bytes: Buffer): string[];
}

const EMPTY = Buffer.alloc(0);
const NEWLINE = Buffer.from("\n");

/** One text a line. */
export const lines: ModelCodec = {
  wrap: () => ({ head: EMPTY, tail: NEWLINE }),
  decode: (bytes) => bytes.toString().trimEnd().split("\n"),
};

/** The length goes before the text, as in a WebSocket. */
const sized: ModelCodec = {
  wrap: (_type, _cursor, bytes) => ({ head: Buffer.from(`${bytes}:`) }),
  decode(bytes) {
    const texts: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const colon = bytes.indexOf(":", at);
      const end = colon + 1 + Number(bytes.toString("latin1", at, colon));
      if (colon === -1 || !(end <= bytes.length)) throw new Error("the sizes do not add up");
      texts.push(bytes.toString("utf8", colon + 1, end));
      at = end;
    }
    return texts;
  },
};

/** Type and cursor go before the text, as in an event stream. */
const named: ModelCodec = {
  wrap: (type, cursor) => ({
    head: Buffer.from(`${type} ${cursor ?? "-"} `),
    tail: Buffer.from("\n\n"),
  }),
  decode: (bytes) =>
    bytes
      .toString()
      .trimEnd()
      .split("\n\n")
      .map((message) => {
        const [, type, cursor, text = ""] = /^(\S+) (\S+) (.*)$/.exec(message) ?? [];
        const frame = JSON.parse(text) as { type: string; cursor?: string };
        if (frame.type !== type || (frame.cursor ?? "-") !== cursor) {
          throw new Error(`a frame ${type} ${cursor} that says ${frame.type} ${frame.cursor}`);
        }
        return text;
      }),
};

export const CODECS = [lines, sized, named] as const;
