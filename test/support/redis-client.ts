import { connect } from "node:net";
import { onTestFinished } from "vitest";
import { inTime } from "./wait.js";

/** An answer of Redis; an error inside of one is its text. */
type Reply = string | number | null | Reply[];

/** Speaks with a Redis directly, in words of its own: what a test needs to look inside, or to break it. */
export interface RedisClient {
  /** Rejects with what Redis says is wrong, or with `gone` when the connection ends. */
  call(...words: (string | number)[]): Promise<Reply>;
  /** The same, for an answer that is a text, a number or a list of texts. */
  text(...words: (string | number)[]): Promise<string>;
  number(...words: (string | number)[]): Promise<number>;
  texts(...words: (string | number)[]): Promise<string[]>;
  /** One field of INFO. */
  info(section: string, field: string): Promise<string>;
}

class Incomplete extends Error {}

/** Reads one reply of RESP 2 from `at`. Throws `Incomplete` when there is not enough yet. */
function parse(bytes: Buffer, at: number): { reply: Reply | Error; next: number } {
  const end = bytes.indexOf("\r\n", at);
  if (end < 0) throw new Incomplete();
  const kind = String.fromCharCode(bytes[at] ?? 0);
  const line = bytes.toString("utf8", at + 1, end);
  let next = end + 2;
  if (kind === "+") return { reply: line, next };
  if (kind === "-") return { reply: new Error(line), next };
  if (kind === ":") return { reply: Number(line), next };
  const size = Number(line);
  if (size < 0) return { reply: null, next };
  if (kind === "$") {
    if (bytes.length < next + size + 2) throw new Incomplete();
    return { reply: bytes.toString("utf8", next, next + size), next: next + size + 2 };
  }
  const list: Reply[] = [];
  for (let count = 0; count < size; count += 1) {
    const item = parse(bytes, next);
    list.push(item.reply instanceof Error ? item.reply.message : item.reply);
    next = item.next;
  }
  return { reply: list, next };
}

/** Connects to a Redis of 127.0.0.1, at the first call. Ended with the test. */
export function redisClient(port: number): RedisClient {
  const socket = connect(port, "127.0.0.1");
  const waiting: { resolve(reply: Reply): void; reject(error: Error): void }[] = [];
  let bytes: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    try {
      for (let at = 0; ; bytes = bytes.subarray(at)) {
        const { reply, next } = parse(bytes, 0);
        at = next;
        const first = waiting.shift();
        if (reply instanceof Error) first?.reject(reply);
        else first?.resolve(reply);
      }
    } catch (thrown) {
      if (!(thrown instanceof Incomplete)) throw thrown;
    }
  });
  socket.on("error", () => {}); // `close` follows
  socket.on("close", () => {
    for (const { reject } of waiting.splice(0)) reject(new Error("gone"));
  });
  onTestFinished(() => void socket.destroy());

  const call: RedisClient["call"] = (...words) => {
    const parts = words.map((word) => `$${Buffer.byteLength(`${word}`)}\r\n${word}\r\n`);
    const answer = new Promise<Reply>((resolve, reject) => {
      if (socket.destroyed) reject(new Error("gone"));
      else waiting.push({ resolve, reject });
    });
    socket.write(`*${words.length}\r\n${parts.join("")}`);
    return inTime(`${words.slice(0, 2).join(" ")}`, answer, 10_000);
  };
  const answered =
    <T>(fits: (reply: Reply) => boolean) =>
    async (...words: (string | number)[]): Promise<T> => {
      const reply = await call(...words);
      if (!fits(reply)) throw new Error(`${words.join(" ")}: ${JSON.stringify(reply)}`);
      return reply as T;
    };
  const text = answered<string>((reply) => typeof reply === "string");
  return {
    call,
    text,
    number: answered<number>((reply) => typeof reply === "number"),
    texts: answered<string[]>(Array.isArray),
    async info(section, field) {
      const lines = (await text("INFO", section)).split("\r\n");
      return lines.find((line) => line.startsWith(`${field}:`))?.slice(field.length + 1) ?? "";
    },
  };
}
