import type { Codec } from "@org/workflow-monitor";

const FIN_TEXT = 0x81;

/** A JSON text as one unmasked text message of a server: RFC 6455 §5.2. */
export const textMessage: Codec = {
  wrap(_type, _cursor, bytes) {
    let head: Buffer;
    if (bytes < 126) head = Buffer.from([FIN_TEXT, bytes]);
    else if (bytes < 65_536) {
      head = Buffer.from([FIN_TEXT, 126, bytes >> 8, bytes & 255]);
    } else {
      head = Buffer.alloc(10);
      head[0] = FIN_TEXT;
      head[1] = 127;
      head.writeBigUInt64BE(BigInt(bytes), 2);
    }
    return { head };
  },
};
