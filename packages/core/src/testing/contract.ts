/**
 * Contract kits: what an implementation must do, as tests for any runner. The runner's `test`
 * function is handed in; a test that fails rejects.
 */
export type Test = (name: string, run: () => Promise<void>) => unknown;

/** Waits until something holds, by looking again each turn of the event loop; rejects after `ms` (default 5,000). */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ms = 5_000,
): Promise<void> {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Waits for a promise, but not for ever. */
export async function inTime<T>(what: string, promise: Promise<T>, ms = 5_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
