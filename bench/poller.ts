import { connect } from "node:net";
import { answer } from "./child.js";
import type { PollerCalls, PollTarget } from "./messages.js";

/** A process of HTTP clients: keep-alive, one request at a time on each connection. */

interface Tally {
  status: number;
  bytes: number;
}

answer<PollerCalls>({
  async poll(target) {
    const { requests, connections } = target;
    const etag = target.conditional ? (await run(target, 1, undefined)).etag : undefined;
    const share = Math.ceil(requests / connections);
    const from = process.hrtime.bigint();
    const all = await Promise.all(
      Array.from({ length: connections }, () => run(target, share, etag ?? anyTag(target))),
    );
    const ms = Number(process.hrtime.bigint() - from) / 1e6;
    const { status, bytes } = all[0] as Tally;
    if (all.some((one) => one.status !== status)) throw new Error("Answers differ.");
    return { ms, status, bytes };
  },
});

/** The bare server knows no tags: to any it says 304. */
const anyTag = ({ conditional }: PollTarget) => (conditional ? '"any"' : undefined);

/** One connection. Resolves when it has had all its answers. */
function run(
  { to, path }: PollTarget,
  requests: number,
  tag: string | undefined,
): Promise<Tally & { etag: string | undefined }> {
  const condition = tag === undefined ? "" : `If-None-Match: ${tag}\r\n`;
  const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${condition}\r\n`;
  return new Promise((resolve, reject) => {
    let text = "";
    let done = 0;
    const socket = connect({ ...to, noDelay: true });
    socket.setEncoding("latin1");
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      text += String(chunk);
      const end = text.indexOf("\r\n\r\n");
      if (end === -1) return;
      const status = Number(text.slice(9, 12));
      const length = status === 304 ? 0 : Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (text.length < end + 4 + length) return;
      if (text.length > end + 4 + length || !(status === 200 || status === 304))
        return reject(new Error(`The answer was ${text.slice(0, 200)}`));
      done += 1;
      if (done < requests) {
        text = "";
        socket.write(request);
        return;
      }
      socket.destroy();
      resolve({ status, bytes: length, etag: /etag: (\S+)/i.exec(text)?.[1] });
    });
    socket.write(request);
  });
}
