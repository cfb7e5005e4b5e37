import type { Logger } from "@org/workflow-monitor";

const REPEAT_MS = 60_000;
const MOST = 100;

/** Warnings in the log: each text at most once a minute, and at most 100 of them. */
export class Warnings {
  readonly #logger: Logger;
  /** When each text was logged, oldest first. */
  readonly #last = new Map<string, number>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  say(text: string, context: Record<string, unknown> = {}): void {
    const now = performance.now();
    for (const [old, at] of this.#last) {
      if (now - at < REPEAT_MS) break;
      this.#last.delete(old);
    }
    if (this.#last.has(text) || this.#last.size >= MOST) return;
    this.#last.set(text, now);
    this.#logger.warn(context, text);
  }
}
