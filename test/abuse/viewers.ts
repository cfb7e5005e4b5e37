// The healthy viewers: they read what they get, and know how old it is.
import { WebSocket } from "ws";
import { answer } from "../../bench/child.js";
import { quantile } from "./quantile.js";

let latenciesMs: number[] = [];
const sockets: WebSocket[] = [];
let lost = 0;

const MESSAGE = /"message":"(\d+)"/;

function hear(data: Buffer): void {
  const [, at] = MESSAGE.exec(data.toString("latin1")) ?? [];
  if (at) latenciesMs.push(Number(process.hrtime.bigint() - BigInt(at)) / 1e6);
}

const calls = {
  /** Opens so many viewers of a job. */
  open: async (port: number, jobId: string, count: number) => {
    for (let n = 0; n < count; n++) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?jobId=${jobId}`, {
        perMessageDeflate: false,
      });
      sockets.push(socket);
      await new Promise((resolve) => socket.once("open", resolve));
      socket.on("message", (data) => hear(data as Buffer));
      socket.on("close", () => {
        lost += 1;
      });
    }
  },

  begin: async () => {
    latenciesMs = [];
  },

  /** How old updates were since `begin`, and how many viewers were sent away so far. */
  end: async () => ({
    updates: latenciesMs.length,
    p50: quantile(latenciesMs, 0.5),
    p99: quantile(latenciesMs, 0.99),
    lost,
  }),
};

export type ViewerCalls = typeof calls;
answer(calls);
