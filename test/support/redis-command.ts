import { connect } from "node:net";

export type RedisReply = string | number | null | RedisReply[];

/** One command to a Redis on a port of 127.0.0.1, on a connection of its own. Rejects with what Redis says. */
export function redisCommand(port: number, ...words: (string | number)[]): Promise<RedisReply> {
  return new Promise((resolve, reject) => {
    const parts = words.map((word) => `$${Buffer.byteLength(`${word}`)}\r\n${word}\r\n`);
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(`*${words.length}\r\n${parts.join("")}`);
    });
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const parsed = parse(text, 0);
      if (!parsed) return;
      socket.destroy();
      if (parsed.reply instanceof Error) reject(parsed.reply);
      else resolve(parsed.reply);
    });
    socket.on("error", reject);
    socket.on("close", () =>
      reject(new Error(`Redis closed the connection of ${words.join(" ")}`)),
    );
  });
}

interface Parsed {
  reply: RedisReply | Error;
  end: number;
}

/** The reply that begins at an offset; undefined when it is not all there yet. */
function parse(text: string, from: number): Parsed | undefined {
  const lineEnd = text.indexOf("\r\n", from);
  if (lineEnd === -1) return undefined;
  const kind = text[from];
  const line = text.slice(from + 1, lineEnd);
  const end = lineEnd + 2;
  if (kind === "+") return { reply: line, end };
  if (kind === "-") return { reply: new Error(line), end };
  if (kind === ":") return { reply: Number(line), end };
  const size = Number(line);
  if (size === -1) return { reply: null, end };
  if (kind === "$") {
    const bytes = text.slice(end, end + size);
    return text.length < end + size + 2
      ? undefined
      : { reply: Buffer.from(bytes, "latin1").toString(), end: end + size + 2 };
  }
  const replies: RedisReply[] = [];
  let at = end;
  while (replies.length < size) {
    const parsed = parse(text, at);
    if (!parsed) return undefined;
    replies.push(parsed.reply as RedisReply);
    at = parsed.end;
  }
  return { reply: replies, end: at };
}
