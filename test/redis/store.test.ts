import { storeContract } from "@org/workflow-monitor/testing";
import { redisStore } from "@org/workflow-monitor-redis";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";

describe.skipIf(withoutRedis)("redisStore", () => {
  let server: RedisServer;
  let stores = 0;

  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server?.close());

  storeContract({
    test,
    create: () => redisStore({ url: server.url, prefix: `test${++stores}:` }),
    another: () => redisStore({ url: server.url, prefix: `test${stores}:` }),
    supports: { list: true, health: true },
  });
});
