import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface Program {
  name: string;
  launch(): ChildProcess;
  /** Resolves when it is of use. */
  ready(child: ChildProcess): Promise<unknown>;
}

const COMES_BACK_MS = 5_000;
const PATIENCE_MS = 3_000;

/** Keeps programs running: one that ends is started again, as systemd or Kubernetes would. `print` gets their lines. */
export function createSupervisor(print: (line: string) => void) {
  const children = new Set<ChildProcess>();
  const restarts = new Set<NodeJS.Timeout>();
  let stopping = false;

  /** Resolves when it is ready; rejects when it ends before. */
  async function start(program: Program): Promise<void> {
    const child = program.launch();
    children.add(child);
    const say = (line: string) => print(tagged(program.name, child.pid, line));
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on("line", say);
    }
    const ended = new Promise<string>((resolve) => {
      child.once("exit", (code, signal) => resolve(signal ?? `code ${code}`));
      child.once("error", ({ message }) => resolve(message));
    }).finally(() => children.delete(child));
    const early = ended.then((how) => {
      throw new Error(`${program.name} ended before it was ready: ${how}`);
    });
    early.catch(() => {}); // later, it is no failure to start
    await Promise.race([program.ready(child), early]);
    say("is ready");
    void ended.then((how) => {
      if (stopping) return;
      say(`has ended, ${how}; another one comes in ${COMES_BACK_MS / 1_000} s`);
      startLater(program);
    });
  }

  function startLater(program: Program): void {
    const timer = setTimeout(() => {
      restarts.delete(timer);
      start(program).catch(({ message }: Error) => {
        print(message);
        if (!stopping) startLater(program);
      });
    }, COMES_BACK_MS);
    restarts.add(timer);
  }

  /** Ends all of them: those that do not go when they are told to, are made to. */
  async function stop(): Promise<void> {
    stopping = true;
    for (const timer of restarts) clearTimeout(timer);
    const all = [...children];
    const gone = all.map((child) => once(child, "exit"));
    for (const child of all) {
      child.kill("SIGTERM");
      child.kill("SIGCONT"); // one that is paused hears nothing else
    }
    const late = setTimeout(() => {
      for (const child of all) child.kill("SIGKILL");
    }, PATIENCE_MS);
    await Promise.all(gone);
    clearTimeout(late);
  }

  return { start, stop };
}

const tagged = (name: string, pid: number | undefined, text: string) =>
  `${name.padEnd(8)} ${String(pid).padStart(8)}  ${text}`;
