import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { inTime, until } from "../support/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.TEST_DIST
  ? [process.execPath, "packages/cli/dist/bin.js"]
  : [process.execPath, "--import", "tsx", "packages/cli/src/bin.ts"];

export interface Run {
  readonly stdout: string;
  readonly stderr: string;
  /** Waits until something stands on stdout. */
  shows(text: string): Promise<void>;
  /** The exit code, when the process is gone. */
  readonly exited: Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** Types into the terminal. */
  type(keys: string): void;
  /** Nobody reads stdout any more. */
  stopReading(): void;
}

/** The real program in a process of its own, with pipes; killed at the end of the test. */
export const run = (args: string[], env: NodeJS.ProcessEnv = {}): Run =>
  start([...program, ...args], env);

/** Whether there is util-linux's `script`, which makes pseudo-terminals. */
export const hasScript = spawnSync("script", ["--version"]).stdout?.includes("util-linux") ?? false;

/** The same in a pseudo-terminal, of which `stdout` is what appears in it. */
export function runInTerminal(
  args: string[],
  env: NodeJS.ProcessEnv = {},
  { columns = 80, rows = 24 } = {},
): Run {
  const quoted = [...program, ...args].map((arg) => `'${arg}'`).join(" ");
  const command = `stty cols ${columns} rows ${rows}; exec ${quoted}`;
  return start(["script", "-qec", command, "/dev/null"], { TERM: "xterm-256color", ...env });
}

function start([command = "", ...args]: string[], more: NodeJS.ProcessEnv): Run {
  // What the terminal of the tests says of itself is not what is tested.
  const { NO_COLOR: _, FORCE_COLOR: __, CI: ___, ...env } = process.env;
  const child = spawn(command, args, { cwd: root, env: { ...env, ...more } });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (chunk: string) => {
      output[name] += chunk;
    });
  }
  const exited = once(child, "close").then(([code]) => code as number | null);
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  return {
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    shows: (text) =>
      until(
        `the program shows ${JSON.stringify(text)}`,
        () => output.stdout.includes(text),
        15_000,
      ),
    exited: inTime("the program's exit", exited, 20_000),
    kill: (signal) => void child.kill(signal),
    type: (keys) => void child.stdin.write(keys),
    stopReading: () => void child.stdout.destroy(),
  };
}
