import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { type Calls, type Child, start } from "../../bench/child.js";
import type { Told } from "./log.js";

export interface ProcessOptions<C extends Calls<C>> {
  name: string;
  /** Its program, in this folder. */
  program: string;
  folder: string;
  /** Makes it ready to work. */
  open(child: Child<C>, log: string): Promise<void>;
  /** @param life the name of the life that tells */
  hear(told: Told, life: string): void;
  /** It ended, and nobody killed it, or it wrote to stderr. */
  onCrash(what: string): void;
}

/** A process that can be killed, paused and started again. Killed at the end of the test. */
export class ClusterProcess<C extends Calls<C>> {
  readonly name: string;
  /** The number of its life. */
  life = 0;
  /** It can be asked. */
  alive = false;
  paused = false;
  /** A fault has it in its hands. */
  taken = false;
  /** How often it told that it does not know what became of an append. */
  doubts = 0;
  readonly #options: ProcessOptions<C>;
  #child: Child<C> | undefined;

  constructor(options: ProcessOptions<C>) {
    this.name = options.name;
    this.#options = options;
    onTestFinished(() => this.kill());
  }

  get lifeName(): string {
    return `${this.name}, life ${this.life}`;
  }

  async start(): Promise<void> {
    const { name, program, folder, open, hear, onCrash } = this.#options;
    const file = fileURLToPath(new URL(program, import.meta.url));
    this.life += 1;
    const { lifeName } = this;
    const child = start<C>(file, ["--import", "tsx"], ["ignore", "inherit", "pipe", "ipc"]);
    this.#child = child;
    let errors = "";
    child.process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    child.process.on("message", (told: Told | object) => {
      if (!("tell" in told)) return; // an answer
      if (told.tell === "unknown outcome") this.doubts += 1;
      hear(told, lifeName);
    });
    child.process.on("error", () => {}); // something was sent to one that is gone
    child.process.on("exit", (code, signal) => {
      if (this.#child !== child) return; // killed
      this.#gone();
      onCrash(`${lifeName} ended by itself: ${code ?? signal}`);
    });
    child.process.on("close", () => {
      if (errors) onCrash(`${lifeName} wrote to stderr: ${errors.slice(0, 2_000)}`);
    });
    await open(child, join(folder, `${name}.log`));
    this.alive = true;
  }

  async call<K extends keyof C>(
    name: K,
    ...args: Parameters<C[K]>
  ): Promise<Awaited<ReturnType<C[K]>>> {
    if (!this.#child || !this.alive) throw new Error(`${this.name} is not there`);
    return this.#child.call(name, ...args) as Promise<Awaited<ReturnType<C[K]>>>;
  }

  async kill(): Promise<void> {
    const child = this.#child?.process;
    if (!child) return;
    this.#gone();
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
  }

  pause(): void {
    this.paused = this.#child?.process.kill("SIGSTOP") ?? false;
  }

  resume(): void {
    if (this.paused) this.#child?.process.kill("SIGCONT");
    this.paused = false;
  }

  #gone(): void {
    this.#child = undefined;
    this.alive = false;
    this.paused = false;
  }
}
