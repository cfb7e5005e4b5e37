import { randomBytes } from "node:crypto";
import { clientFrame } from "../support/client-frame.js";

/** What one connection of an attacker does. */
export interface Attack {
  readonly name: string;
  /** Opens a WebSocket here; undefined: it speaks HTTP. */
  readonly upgrade?: string;
  /** Sent over and over, as fast as the server takes it. */
  readonly flood: Buffer;
  /** Sent once before. */
  readonly first?: Buffer;
  /** Leaves the answers where they are. */
  readonly deaf?: true;
  /** Further jobs on the server. */
  readonly jobs?: number;
  /** Waits for the answer before it sends again. */
  readonly inTurn?: true;
}

const WATCHING = "/ws?jobId=healthy";
const IDLE = "/ws";
const REPEATED = 1_000;

const text = (message: object | string) =>
  clientFrame(1, typeof message === "string" ? message : JSON.stringify(message));
const many = (...parts: Buffer[]): Buffer =>
  Buffer.concat(Array.from({ length: REPEATED }, () => parts).flat());
const request = (path: string, headers = "") =>
  Buffer.from(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);

/** The floods of one connection that others must not feel. */
export const attacks: readonly Attack[] = [
  { name: "pongs", upgrade: WATCHING, flood: many(clientFrame(10, "")) },
  { name: "ping frames", upgrade: WATCHING, flood: many(clientFrame(9, "x")) },
  {
    name: "pings, not reading",
    upgrade: WATCHING,
    flood: many(text({ type: "ping" })),
    deaf: true,
  },
  { name: "pings, watching nothing", upgrade: IDLE, flood: many(text({ type: "ping" })) },
  { name: "unknown types", upgrade: WATCHING, flood: many(text({ type: "x" })) },
  {
    name: "subscribe, unsubscribe",
    upgrade: IDLE,
    flood: many(
      text({ type: "subscribe", jobId: "healthy" }),
      text({ type: "unsubscribe", jobId: "healthy" }),
    ),
  },
  {
    name: "subscribes to unknown jobs",
    upgrade: IDLE,
    flood: many(text({ type: "subscribe", jobId: randomBytes(8).toString("hex") })),
  },
  {
    name: "fragments",
    upgrade: WATCHING,
    first: clientFrame(1, "", false),
    flood: many(clientFrame(0, "", false)),
  },
  { name: "pipelined polls", flood: many(request("/jobs/healthy")) },
  { name: "pipelined polls of nothing", flood: many(request("/jobs/none")) },
  { name: "pipelined polls, not reading", flood: many(request("/jobs/healthy")), deaf: true },
  {
    name: "pipelined waiting polls",
    flood: many(request("/jobs/healthy?wait=25", "If-None-Match: *\r\n")),
  },
  {
    name: "pipelined event streams",
    flood: many(request("/jobs/healthy/events", "Accept: text/event-stream\r\n")),
  },
  { name: "pipelined lists", flood: many(request("/jobs?limit=200")), jobs: 1_000 },
  {
    name: "lists, one after another",
    flood: request("/jobs?limit=200"),
    inTurn: true,
    jobs: 1_000,
  },
];
