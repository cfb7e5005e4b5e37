import { type ChildProcess, fork, type StdioOptions } from "node:child_process";

export type Calls<C> = { [K in keyof C]: (...args: never[]) => Promise<unknown> };

/** The side that answers. */
export function answer<C extends Calls<C>>(calls: C): void {
  process.on("message", (asked: { id: number; name: keyof C; args: never[] }) => {
    const { id, name, args } = asked;
    calls[name](...args).then(
      (value) => process.send?.({ id, value }),
      (thrown: unknown) => process.send?.({ id, error: String((thrown as Error).stack ?? thrown) }),
    );
  });
  process.on("disconnect", () => process.exit());
}

export interface Child<C extends Calls<C>> {
  call<K extends keyof C>(name: K, ...args: Parameters<C[K]>): ReturnType<C[K]>;
  stop(): void;
  /** Without a word. */
  kill(): void;
  readonly process: ChildProcess;
}

/** The side that asks: a process of its own. */
export function start<C extends Calls<C>>(
  file: string,
  execArgv: readonly string[] = ["--enable-source-maps"],
  stdio: StdioOptions = "inherit",
): Child<C> {
  const child = fork(file, {
    execArgv: ["--expose-gc", ...execArgv],
    ...(stdio !== "inherit" && { stdio }),
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let lastId = 0;
  child.on("message", (message: { id: number; value?: unknown; error?: string }) => {
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) call?.resolve(message.value);
    else call?.reject(new Error(message.error));
  });
  child.on("exit", (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`A child exited with ${code}.`));
  });
  return {
    process: child,
    call(name, ...args) {
      lastId += 1;
      const id = lastId;
      child.send({ id, name, args });
      return new Promise<unknown>((resolve, reject) => {
        waiting.set(id, { resolve, reject });
      }) as ReturnType<C[typeof name]>;
    },
    stop() {
      child.disconnect();
    },
    kill() {
      child.kill("SIGKILL");
    },
  };
}
