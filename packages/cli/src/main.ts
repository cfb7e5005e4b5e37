import { readFileSync } from "node:fs";
import { createMonitorClient } from "@org/workflow-monitor-client";
import { WebSocket } from "ws";
import { type ListCommand, parseArguments, type WatchCommand } from "./arguments.js";
import { ExitCode } from "./exit-codes.js";
import type { Io } from "./io.js";
import { list } from "./list.js";
import { UsageError } from "./target.js";
import { printable } from "./text.js";
import { usage } from "./usage.js";
import { watch } from "./watch.js";

/** Does what the arguments ask for; resolves to the exit code. */
export async function main(args: string[], io: Io): Promise<number> {
  try {
    const command = parseArguments(args, io.env);
    if (command.name === "help") io.stdout.write(usage);
    else if (command.name === "version") io.stdout.write(`${version()}\n`);
    else return await run(command, io);
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    io.stderr.write(`${printable(error.message)}\n\n${usage}`);
    return ExitCode.usage;
  }
}

async function run(command: WatchCommand | ListCommand, io: Io): Promise<number> {
  const { origin, paths, token } = command;
  const transport = command.name === "watch" ? command.transport : undefined;
  const client = createMonitorClient({
    url: origin,
    paths,
    WebSocket, // Node 20 has none of its own
    ...(token !== undefined && { token }),
    ...(transport !== undefined && { transports: [transport] }),
  });
  try {
    return command.name === "watch"
      ? await watch(command, client, io)
      : await list(command, client, io);
  } finally {
    client.close();
  }
}

function version(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
