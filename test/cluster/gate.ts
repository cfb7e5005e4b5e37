/** Faults go through it, any number at a time; a rest waits until none is under way, and lets none begin. */
export class Gate {
  #passing = 0;
  #shut: Promise<void> | undefined;
  #onEmpty = () => {};

  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#shut) await this.#shut;
    this.#passing += 1;
    try {
      return await work();
    } finally {
      this.#passing -= 1;
      if (this.#passing === 0) this.#onEmpty();
    }
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#shut) await this.#shut;
    let open = () => {};
    this.#shut = new Promise((resolve) => {
      open = resolve;
    });
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    if (this.#passing > 0) await empty;
    try {
      return await work();
    } finally {
      this.#shut = undefined;
      open();
    }
  }
}
