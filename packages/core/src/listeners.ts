import type { Logger } from "./host.js";

/** Listeners that cannot disturb: what one throws, or rejects with, goes to the logger. */
export class Listeners<Events extends Record<string, unknown>> {
  readonly #logger: Logger;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => unknown>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  on<E extends keyof Events>(name: E, listener: (event: Events[E]) => unknown): void {
    const all = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, all.add(listener));
  }

  off<E extends keyof Events>(name: E, listener: (event: Events[E]) => unknown): void {
    const all = this.#listeners.get(name);
    all?.delete(listener);
    if (all?.size === 0) this.#listeners.delete(name);
  }

  has(name: keyof Events): boolean {
    return this.#listeners.has(name);
  }

  tell<E extends keyof Events>(name: E, event: Events[E]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      const failed = (thrown: unknown) =>
        this.#logger.error({ err: thrown, event: String(name) }, "a listener failed");
      try {
        const result = (listener as (event: Events[E]) => unknown)(event);
        if (result instanceof Promise) result.catch(failed);
      } catch (thrown) {
        failed(thrown);
      }
    }
  }
}
