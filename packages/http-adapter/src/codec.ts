import type { Codec } from "@org/workflow-monitor";

const NOTHING = Buffer.alloc(0);

/** A JSON text as it is. */
export const jsonText: Codec = { wrap: () => ({ head: NOTHING }) };

/** An `error` event would fire `onerror` of an EventSource. */
const eventName = (type: string): string => (type === "error" ? "problem" : type);

const eventHead = (type: string, cursor: string | null): string =>
  `event: ${eventName(type)}\n${cursor === null ? "" : `id: ${cursor}\n`}data: `;

const EVENT_TAIL = "\n\n";

/** A JSON text, which has no line breaks, as a server-sent event. */
export const serverSentEvent: Codec = {
  wrap: (type, cursor) => ({
    head: Buffer.from(eventHead(type, cursor)),
    tail: Buffer.from(EVENT_TAIL),
  }),
};

/**
 * The same as a chunk of an HTTP/1.1 body (RFC 9112 §7.1), for those that are written to their
 * `net.Socket` as they are.
 */
export const chunkedEvent: Codec = {
  wrap(type, cursor, bytes) {
    const head = eventHead(type, cursor);
    const size = head.length + bytes + EVENT_TAIL.length;
    return {
      head: Buffer.from(`${size.toString(16)}\r\n${head}`),
      tail: Buffer.from(`${EVENT_TAIL}\r\n`),
    };
  },
};

/** A text of one's own in the encoding of a codec of this file. */
export const asChunk = (text: string, codec: Codec): Buffer =>
  Buffer.from(codec === chunkedEvent ? `${text.length.toString(16)}\r\n${text}\r\n` : text);
