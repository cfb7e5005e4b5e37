import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { type RedisStoreOptions, redisStore } from "@org/workflow-monitor-redis";
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import { recorder } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { append, batchOf, publisherOn, type Store, storeOn, there, whole } from "./given.js";

const WRONG: [string, unknown][] = [
  ["a url of another kind", { url: "http://127.0.0.1:6379" }],
  ["a url without a scheme", { url: "127.0.0.1:6379" }],
  ["an empty url", { url: "" }],
  ["a url that is no text", { url: 6379 }],
  ["a url that is null", { url: null }],
  ["redis that is no object", { redis: "127.0.0.1" }],
  ["redis that is null", { redis: null }],
  ["a keyPrefix", { redis: { keyPrefix: "x:" } }],
  ["a prefix that is no text", { prefix: 7 }],
  ["a prefix that is null", { prefix: null }],
  ["a prefix with a brace", { prefix: "a{b" }],
  ["a prefix with a space", { prefix: "a b" }],
  ["no history", { historyBytes: 0 }],
  ["a negative history", { historyBytes: -1 }],
  ["history that is no number", { historyBytes: "1 MiB" }],
  ["history of NaN", { historyBytes: Number.NaN }],
  ["endless history", { historyBytes: Number.POSITIVE_INFINITY }],
  ["half a byte of history", { historyBytes: 0.5 }],
  ["a negative keepMs", { keepMs: -1 }],
  ["a keepMs that is no number", { keepMs: "30" }],
  ["an endless keepMs", { keepMs: Number.POSITIVE_INFINITY }],
  ["no timeout", { timeoutMs: 0 }],
  ["a timeout of NaN", { timeoutMs: Number.NaN }],
  ["a timeout that no timer can have", { timeoutMs: 2 ** 31 }],
  ["a timeout that is null", { timeoutMs: null }],
  ["a logger that logs nothing", { logger: {} }],
  ["a logger that is null", { logger: null }],
];

describe("options", () => {
  test.each(WRONG)("%s is a TypeError or a RangeError that says what is wrong", (_, options) => {
    let thrown: unknown;
    try {
      void redisStore(options as RedisStoreOptions).close();
    } catch (error) {
      thrown = error;
    }
    expect(["TypeError", "RangeError"]).toContain((thrown as Error | undefined)?.constructor.name);
    const [name] = Object.keys(options as object);
    expect((thrown as Error).message).toMatch(/^[\w.]+ .+\.$/);
    expect((thrown as Error).message).toContain(name);
  });
});

describe("what cannot be reached", () => {
  const printed: unknown[] = [];
  const unhandled = (reason: unknown) => printed.push(reason);

  beforeEach(() => {
    printed.length = 0;
    for (const name of ["log", "info", "warn", "error", "debug"] as const)
      vi.spyOn(console, name).mockImplementation((...words) => void printed.push(words));
    for (const stream of [process.stdout, process.stderr])
      vi.spyOn(stream, "write").mockImplementation((text) => {
        printed.push(text);
        return true;
      });
    process.on("unhandledRejection", unhandled);
    process.on("uncaughtException", unhandled);
  });
  afterEach(() => {
    process.off("unhandledRejection", unhandled);
    process.off("uncaughtException", unhandled);
    vi.restoreAllMocks();
  });

  /** Everything rejects with `unavailable`, nothing is printed, and it closes. */
  async function unavailable(store: Store): Promise<void> {
    const told: boolean[] = [];
    store.connection((now) => told.push(now));
    const asked: [string, () => Promise<unknown>][] = [
      ["read", async () => store.read("j")],
      ["append", () => store.append("j", null, batchOf("j", 1))],
      ["find", () => store.find("j", "b")],
      ["follow", () => store.follow("j", () => {})],
      ["list", () => store.list({ limit: 1 })],
      ["health", () => store.health()],
    ];
    const answers = await Promise.all(
      asked.map(([what, ask]) =>
        inTime(what, ask()).then(
          () => `${what} was answered`,
          (thrown: { code: string; message: string }) => {
            expect(thrown.message).toMatch(/^[A-Z].+\.$/);
            return thrown.code;
          },
        ),
      ),
    );
    expect(answers).toEqual(asked.map(() => "unavailable"));
    await inTime("the close", store.close());
    expect(told).toEqual([false]);
    await new Promise(setImmediate);
    expect(printed).toEqual([]);
  }

  /** A port on which nobody listens. */
  async function nobody(): Promise<number> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    return port;
  }

  test("a port on which nobody listens", async () => {
    await unavailable(storeOn(await nobody(), { timeoutMs: 100 }));
  });

  test("a host that does not exist", async () => {
    await unavailable(storeOn(1, { url: "redis://nobody.invalid:6379", timeoutMs: 100 }));
  });

  test("a server that speaks something else", async () => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as { port: number };
    await unavailable(storeOn(port, { timeoutMs: 100 }));
  });

  test("a server that never says a word", async () => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as { port: number };
    await unavailable(storeOn(port, { timeoutMs: 100 }));
  });

  test("a Sentinel that is none", async () => {
    const sentinels = [{ host: "127.0.0.1", port: await nobody() }];
    const redis = { sentinels, name: "main" };
    await unavailable(redisStore({ redis, timeoutMs: 100 }) as Store);
  });

  describe.skipIf(withoutRedis)("a Redis", () => {
    let server: RedisServer;
    beforeAll(async () => {
      server = await startRedis();
      const client = connect(server.port, "127.0.0.1");
      client.end("CONFIG SET requirepass right\r\n");
      await once(client.resume(), "close");
    });
    afterAll(() => server?.close());

    test("with a wrong password, or none", async () => {
      await unavailable(storeOn(server.port, { timeoutMs: 100 }));
      await unavailable(storeOn(server.port, { timeoutMs: 100, redis: { password: "wrong" } }));
      const url = `redis://:wrong@127.0.0.1:${server.port}`;
      await unavailable(storeOn(server.port, { timeoutMs: 100, url }));
    });

    test("without TLS, asked for it", async () => {
      const url = `rediss://127.0.0.1:${server.port}`;
      await unavailable(storeOn(server.port, { timeoutMs: 100, url }));
    });

    test("with the right password: is there, wherever it stands", async () => {
      const options = [
        { redis: { password: "right" } },
        { url: `redis://:right@127.0.0.1:${server.port}` },
        { url: `redis://default:right@127.0.0.1:${server.port}/0` },
      ];
      for (const option of options) await storeOn(server.port, option).health();
      const { host, port } = { host: "127.0.0.1", port: server.port };
      const store = redisStore({ redis: { host, port, password: "right" } }) as Store;
      onTestFinished(() => store.close());
      await store.health();
    });

    test("in another database: its own jobs", async () => {
      const one = storeOn(server.port, { redis: { password: "right" } });
      const url = `redis://:right@127.0.0.1:${server.port}/3`;
      const other = storeOn(server.port, { url });
      await append(one, null, batchOf("j", 1, { message: "one" }));
      expect(await other.read("j")).toBeUndefined();
      await append(other, null, batchOf("j", 1, { message: "other" }));
      expect((await whole(one)).job.message).toBe("one");
    });

    test("whose user may not publish: nothing is stored without being announced", async () => {
      const client = redisClient(server.port);
      await client.call("AUTH", "right");
      await client.call("ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "resetchannels");
      const { logger, lines } = recorder();
      const url = `redis://mute:pw@127.0.0.1:${server.port}`;
      const store = storeOn(server.port, { url, logger, prefix: "mute:" });
      await there(store);
      await expect(store.health()).rejects.toMatchObject({ code: "unavailable" });
      await expect(store.append("j", null, batchOf("j", 1))).rejects.toMatchObject({
        code: "unavailable",
      });
      expect(JSON.stringify(lines)).not.toContain("pw");
    });
  });
});

describe.skipIf(withoutRedis)("prefix", () => {
  test("keeps monitors on one Redis apart, channels too", async () => {
    const server = await startRedis();
    onTestFinished(() => server.close());
    const one = publisherOn(server.port, { store: { prefix: "one:" } });
    const other = publisherOn(server.port, { store: { prefix: "" } });
    const heard: string[] = [];
    await other.store.follow("j", ({ id }) => heard.push(id));
    await one.say({ message: "one" });
    expect(await other.store.read("j")).toBeUndefined();
    expect((await other.store.list({ limit: 9 })).jobs).toEqual([]);
    await other.say({ message: "other" });
    await until("it is heard", () => heard.length > 0);
    expect(heard).toHaveLength(1);
    expect((await whole(one.store)).job.message).toBe("one");
  });
});
