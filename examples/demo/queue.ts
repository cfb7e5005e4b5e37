type Work = () => Promise<unknown>;

/** Runs work in the order in which it came: so much at a time, while so much more may wait. */
export function createQueue(limits: { running: number; waiting: number }) {
  const waiting: Work[] = [];
  const running = new Set<Promise<void>>();

  function next(): void {
    const work = running.size < limits.running ? waiting.shift() : undefined;
    if (!work) return;
    const done = work()
      .catch(() => {}) // a job says itself what went wrong
      .then(() => {
        running.delete(done);
        next();
      });
    running.add(done);
  }

  return {
    get full(): boolean {
      return waiting.length >= limits.waiting;
    },
    add(work: Work): void {
      waiting.push(work);
      next();
    },
    /** Resolves when nothing runs or waits. */
    async idle(): Promise<void> {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
