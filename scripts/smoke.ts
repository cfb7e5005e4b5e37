// What smoke tests have in common: a script of package.json as a newcomer starts it, and a time in which all is done.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A demo that runs. */
export interface Demo {
  /** What it printed first. */
  url: string;
  /** All that it has printed so far. */
  readonly output: string;
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Runs `npm run <script>` and a test of it, which resolves to what is to be said at the end; a failure shows what the demo printed. */
export async function smoke(
  script: string,
  timeoutMs: number,
  test: (demo: Demo) => Promise<string>,
): Promise<void> {
  let output = "";
  // A process group of its own, so that npm, the shell and the demo all end with it.
  const child = spawn("npm", ["run", "--silent", script], {
    cwd: root,
    env: { ...process.env, PORT: "0" },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });

  const printedUrl = new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const url = /http:\/\/[\w.[\]-]+:\d+/.exec(output)?.[0];
      if (url) resolve(url.replace("0.0.0.0", "127.0.0.1"));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`npm run ${script} ended with ${code}`)));
  });

  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${timeoutMs} ms`)), timeoutMs);
  });
  const tested = async () => {
    const url = await printedUrl;
    return test({
      url,
      get output() {
        return output;
      },
    });
  };
  try {
    console.log(`${script}: ${await Promise.race([tested(), timeout])}`);
  } catch (error) {
    console.error(error, `\nnpm run ${script} printed:\n${output}`);
    process.exitCode = 1;
  } finally {
    clearTimeout(timer);
    await stop(child.pid);
  }
}

/** As Ctrl-C does: the demo ends whatever it has started. Resolves when all of it is gone. */
async function stop(pid: number | undefined): Promise<void> {
  if (pid === undefined) return;
  const signal = (name: NodeJS.Signals | 0) => {
    try {
      return process.kill(-pid, name);
    } catch {
      return false; // it has ended
    }
  };
  signal("SIGINT");
  for (const end = Date.now() + 15_000; signal(0) && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  signal("SIGKILL");
}
