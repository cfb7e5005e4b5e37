import { createHash } from "node:crypto";
import type { Announced } from "@org/workflow-monitor";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { announced, digestOf } from "../../packages/redis-store/src/announcement.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { type RedisClient, redisClient } from "../support/redis-client.js";
import { recorder, startServer } from "../support/server.js";
import { until } from "../support/wait.js";
import { append, batchOf, range, storeOn } from "./given.js";

let server: RedisServer;
let client: RedisClient;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

let prefixes = 0;

/** A node with a viewer of a job, and somebody who publishes to its channel. */
async function attacked() {
  client = redisClient(server.port);
  const prefix = `announced${++prefixes}:`;
  const { logger, lines } = recorder();
  const node = await startServer({ store: storeOn(server.port, { prefix, logger }) });
  const stage = (fields: object) =>
    node.monitor.publish({ type: "stage", jobId: "j", stage: "a", ...fields });
  await node.monitor.publish({
    type: "plan",
    jobId: "j",
    stages: [{ stage: "a" }, { stage: "b" }],
  });
  const head = await stage({ status: "running" });
  const viewer = await node.watch("j");
  await viewer.expect("snapshot");
  const channel = `${prefix}{j}`;
  const forge = (text: string) => client.number("PUBLISH", channel, text);
  /** What has been published before has been heard. */
  const heard = () => node.monitor.get("j").then(() => node.settled("j"));
  return { node, viewer, stage, forge, head, channel, heard, lines };
}

const END = '{"type":"job","timestamp":"2026-01-01T00:00:00.000Z","status":"failed"}';

describe.skipIf(withoutRedis)("[S5] [D13] what is not announced by a writer of the log", () => {
  test("reaches no viewer, whatever it is: the revision of that number does", async () => {
    const { viewer, stage, forge, head, heard, lines } = await attacked();
    const { epoch, revision } = head;
    const next = `${epoch}.${revision + 1}`;
    const forged = [
      "",
      "\n\n\n",
      "x",
      "null",
      "\0\0",
      "a".repeat(1_000_000),
      `${next} x`,
      `${next} x\nthis is <no> JSON`,
      `${next} x\n${END}\nj:status\n"failed"\nj:done\ntrue`,
      `${next} x ${"0".repeat(32)}\n${END}\nj:status\n"failed"\nj:done\ntrue`,
      `${next} x ${createHash("sha1")
        .update(`${next} x ${digestOf(END)}`)
        .digest("hex")
        .slice(0, 32)}\n${END}`,
      `${next} x\n${END}\n{"status":"failed","done":true}`,
      `${epoch}.${revision} x\n{}\n{}`,
      `${epoch}.99999999999999 x\n{}\n{}`,
      `zzzzzzzzzzzz.1 x\n{}\nj:status\n"failed"`,
    ];
    for (const text of forged) expect(await forge(text)).toBe(1);
    await heard();
    const real = await stage({ progress: 10 });
    expect(real).toEqual({ epoch, revision: revision + 1 });
    const update = await viewer.expect("update");
    expect(update).toMatchObject({ cursor: next, event: { progress: 10 } });
    await stage({ status: "completed" });
    expect(await viewer.expect("update")).toMatchObject({ event: { status: "completed" } });
    expect(viewer.frames.map(({ type }) => type)).toEqual(["snapshot", "update", "update"]);
    const loud = lines.filter(({ level }) => level === "warn" || level === "error");
    expect(loud.map(({ message }) => message)).toEqual([
      "Something else publishes to the channels of this store.",
    ]);
  });

  test("is not proven by what others have heard: not at another place, nor with another text", async () => {
    const { node, viewer, stage, forge, head, channel, heard } = await attacked();
    const overheard = await overhear(channel);
    const cursor = await stage({ progress: 10 });
    await viewer.expect("update");
    const [first = "", ...rest] = (await overheard.next).split("\n");
    const [, id, proof] = first.split(" ");
    const next = `${head.epoch}.${cursor.revision + 1}`;
    await forge([`${next} ${id} ${proof}`, ...rest].join("\n"));
    await forge([`${next} ${id} ${proof}`, END, "j:status", '"failed"'].join("\n"));
    await forge([`${next} x ${proof}`, ...rest].join("\n"));
    await heard();
    expect(await node.monitor.get("j")).toMatchObject({ revision: cursor.revision });
    await stage({ progress: 20 });
    expect(await viewer.expect("update")).toMatchObject({ cursor: next, event: { progress: 20 } });
  });

  test("does not end viewers", async () => {
    const { viewer, stage, forge, head, heard } = await attacked();
    const next = `${head.epoch}.${head.revision + 1}`;
    await forge(`${next} x\n${END}\nj:status\n"failed"\nj:done\ntrue`);
    await heard();
    await stage({ progress: 10 });
    expect(await viewer.expect("update")).toMatchObject({ job: { status: "running" } });
  });
});

/** Subscribes to a channel; `next` is the next text that is published to it. */
async function overhear(channel: string): Promise<{ next: Promise<string> }> {
  const redis = new Redis(server.port);
  onTestFinished(() => redis.disconnect());
  const next = new Promise<string>((resolve) => {
    redis.once("message", (_, text: string) => resolve(text));
  });
  await redis.subscribe(channel);
  return { next };
}

describe.skipIf(withoutRedis)("[S5] [D13] what a writer announces", () => {
  test("is believed without a read, in a new epoch after one", async () => {
    client = redisClient(server.port);
    const prefix = `announced${++prefixes}:`;
    const [writer, reader] = [storeOn(server.port, { prefix }), storeOn(server.port, { prefix })];
    const next = (revisions: number) => batchOf("j", revisions, { message: `${revisions}` });
    let cursor = await append(writer, null, next(1));
    const heard: Announced[] = [];
    await reader.follow("j", (note) => heard.push(note));
    await reader.read("j");
    for (const revisions of [1, 3, 64]) cursor = await append(writer, cursor, next(revisions));
    await until("they are heard", () => heard.length === 3);
    expect(heard.map(({ revisions }) => revisions.length)).toEqual([1, 3, 64]);

    // Another life of the log has another secret.
    await client.call("DEL", `${prefix}{j}:head`, `${prefix}{j}:log`);
    cursor = await append(writer, null, next(2));
    cursor = await append(writer, cursor, next(2));
    await until("they are heard", () => heard.length === 5);
    expect(heard.slice(3).map(({ revisions }) => revisions.length)).toEqual([0, 0]);
    await reader.read("j");
    cursor = await append(writer, cursor, next(2));
    await until("it is heard", () => heard.length === 6);
    expect(heard[5]).toMatchObject({ cursor, revisions: [{}, {}] });
  });

  test("has secrets of a job's own, that differ", async () => {
    client = redisClient(server.port);
    const prefix = `announced${++prefixes}:`;
    const store = storeOn(server.port, { prefix });
    for (const n of range(20)) await append(store, null, batchOf(`${n}`, 1));
    const secrets = await Promise.all(
      range(20).map((n) => client.text("HGET", `${prefix}{${n}}:head`, "secret")),
    );
    expect(new Set(secrets).size).toBe(20);
    for (const secret of secrets) expect(secret).toMatch(/^\S{24}$/);
  });

  test("is nothing without a secret", () => {
    const cursor = { epoch: "aaaaaaaaaaaa", revision: 1 };
    const hash = createHash("sha1")
      .update(`aaaaaaaaaaaa.1 x ${digestOf("{}\n{}")}`)
      .digest("hex");
    const text = `aaaaaaaaaaaa.1 x ${hash.slice(0, 32)}\n{}\n{}`;
    for (const secret of [undefined, ""])
      expect(announced(text, secret)).toEqual({ cursor, id: "x", revisions: [] });
    expect(announced("no cursor\n{}\n{}", "secret")).toBeUndefined();
  });
});
