import {
  BURST,
  type FanOutCosts,
  type FanOutResults,
  type SSE,
  type WEB_SOCKETS,
} from "../fan-out.js";
import type { FanOutSubject } from "../messages.js";
import { spread } from "../stats.js";
import { compared, type Section, table } from "./markdown.js";

const NAMES: Record<FanOutSubject, string> = {
  ours: "ours, full",
  "ours-delta": "ours, delta",
  "ours-sse": "ours, SSE",
  ws: "ws",
  "socket.io": "Socket.IO",
  uws: "µWebSockets",
  "better-sse": "better-sse",
  floor: "floor",
};

function fanOutTable(title: string, results: Partial<Record<FanOutSubject, FanOutCosts>>): string {
  const all = Object.entries(results) as [FanOutSubject, FanOutCosts][];
  const costs = (what: string, show: (costs: FanOutCosts, of: FanOutSubject) => string) => [
    what,
    ...all.map(([subject, costs]) => show(costs, subject)),
  ];
  return table(
    [title, ...all.map(([subject]) => NAMES[subject])],
    [
      costs("size of an update, bytes", ({ bytes }) => String(bytes)),
      costs("one update a tick: CPU µs per delivery", ({ tick }) => cpu(tick)),
      costs(`${BURST} updates in one tick: CPU µs per delivered update`, ({ burst }) => cpu(burst)),
      // What a C++ server allocates, Node does not count.
      costs("an idle viewer: heap and buffers, KiB", ({ heap }, subject) =>
        subject === "uws" ? "" : (spread(heap).median / 1024).toFixed(1),
      ),
    ],
  );
}

function cpu({ all, user, system }: FanOutCosts["tick"]): string {
  const [sum, ofUser, ofSystem] = [all, user, system].map((series) =>
    spread(series).median.toFixed(2),
  );
  return `${sum} (${ofUser} + ${ofSystem})`;
}

export function fanOutSection(results: FanOutResults<(typeof WEB_SOCKETS)[number]>): Section {
  const { ours, "ours-delta": delta, ws, "socket.io": io, uws, floor } = results;
  return {
    table: fanOutTable("WebSocket", results),
    comparisons: [
      compared("one update a tick: CPU, ours ÷ floor", ours.tick.all, floor.tick.all, {
        most: 1.15,
        later: 1.1,
      }),
      compared("… ours ÷ ws", ours.tick.all, ws.tick.all, { most: 0.95 }),
      compared("… ours ÷ Socket.IO", ours.tick.all, io.tick.all, { most: 0.72 }),
      compared("… ours ÷ µWebSockets", ours.tick.all, uws.tick.all, { most: 1.4 }),
      compared("… user part alone, ours ÷ ws", ours.tick.user, ws.tick.user, {
        most: 0.85,
        later: 0.7,
      }),
      compared("… user part alone, ours ÷ Socket.IO", ours.tick.user, io.tick.user, {
        most: 0.45,
        later: 0.4,
      }),
      compared("… delta ÷ ws", delta.tick.all, ws.tick.all),
      compared("… delta ÷ Socket.IO", delta.tick.all, io.tick.all),
      compared("burst: CPU, ours ÷ ws", ours.burst.all, ws.burst.all, { most: 0.09 }),
      compared("… ours ÷ Socket.IO", ours.burst.all, io.burst.all, { most: 0.08 }),
      compared("… ours ÷ µWebSockets", ours.burst.all, uws.burst.all, { most: 1.6 }),
      compared("idle viewer: memory, ours ÷ ws", ours.heap, ws.heap, { most: 1.25 }),
      compared("… ours ÷ Socket.IO", ours.heap, io.heap, { most: 0.5 }),
    ],
  };
}

export function sseSection(results: FanOutResults<(typeof SSE)[number]>): Section {
  const { ours, "ours-sse": sse, "better-sse": better } = results;
  return {
    table: fanOutTable("SSE", results),
    comparisons: [
      compared(
        "SSE, one update a tick: CPU, ours ÷ ours on WebSocket",
        sse.tick.all,
        ours.tick.all,
        {
          most: 1.3,
        },
      ),
      compared("… ours ÷ better-sse", sse.tick.all, better.tick.all, { most: 0.7 }),
      compared("… burst, ours ÷ better-sse", sse.burst.all, better.burst.all),
      compared("… idle viewer: memory, ours ÷ better-sse", sse.heap, better.heap),
    ],
  };
}
