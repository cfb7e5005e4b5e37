import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { until } from "../support/wait.js";
import { createScene, picture, type Row, rows, settled } from "./event-table.js";
import { createWorld, shorten } from "./given.js";

const readme = readFileSync(
  new URL("../../packages/bullmq-source/README.md", import.meta.url),
  "utf8",
);

/** The table below this heading, as lines. */
function table(heading: string): string[] {
  const lines = readme.slice(readme.indexOf(heading)).split("\n");
  const start = lines.findIndex((line) => line.startsWith("| "));
  const length = lines.slice(start).findIndex((line) => !line.startsWith("|"));
  return lines.slice(start + 2, start + length);
}

const line = ({ happens, says, sees }: Row) =>
  `| ${happens} | ${says.map((said) => `\`${said}\``).join("<br>")} | \`${sees}\` |`;

test.each(["job", "flow"] as const)("the README's table of mode %s is this one", (mode) => {
  expect(table(`### Mode \`${mode}\``)).toEqual(rows.filter((row) => row.mode === mode).map(line));
});

describe.skipIf(withoutRedis)("the event table", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  test.each(rows.map((row) => [`${row.mode}: ${row.happens}`, row] as const))(
    "%s",
    async (_, row) => {
      const world = createWorld(redis);
      try {
        const scene = createScene(world, row);
        const { emitted, monitor, complaints } = scene.watching;
        const { id } = await row.play(scene);
        const said = () => emitted.map((each) => shorten(each).replaceAll(world.prefix, "bull"));
        await until("something is said", () => said().length >= row.says.length).catch(() => {});
        await settled(scene);
        expect(said()).toEqual(row.says);
        let seen = "";
        const look = async () => {
          const job = await monitor.get(id as string);
          seen = job ? picture(job).replaceAll(world.prefix, "bull") : "unknown";
        };
        for (let looks = 0; looks < 100 && seen !== row.sees; looks++) await look();
        expect(seen).toBe(row.sees);
        expect(complaints).toEqual([]);
      } finally {
        await world.close();
      }
    },
  );
});
