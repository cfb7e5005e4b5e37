import { randomBytes } from "node:crypto";

/** A masked frame of a client: RFC 6455 §5.2. */
export function clientFrame(opcode: number, payload: string | Buffer, fin = true): Buffer {
  const bytes = Buffer.from(payload);
  if (bytes.length > 125) throw new RangeError("short frames only");
  const mask = randomBytes(4);
  const masked = bytes.map((byte, at) => byte ^ (mask[at % 4] as number));
  const head = Buffer.from([(fin ? 0x80 : 0) | opcode, 0x80 | bytes.length]);
  return Buffer.concat([head, mask, masked]);
}

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
