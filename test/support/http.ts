import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http";
import { inTime } from "./wait.js";

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  text: string;
  json<T = Record<string, unknown>>(): T;
}

/** One GET on a connection of its own, which it closes. The path is sent as it is. */
export function httpGet(
  port: number,
  path: string,
  headers: OutgoingHttpHeaders = {},
): Promise<Answer> {
  const answer = new Promise<Answer>((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const body = Buffer.concat(chunks);
        const text = body.toString();
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body,
          text,
          json: <T>() => JSON.parse(text) as T,
        });
      });
    });
    sent.on("error", reject);
    sent.end();
  });
  return inTime(`GET ${path.slice(0, 80)}`, answer, 10_000);
}
