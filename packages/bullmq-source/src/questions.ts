/** Asked of monitors. Rejects when one does not answer. */
type Question = () => Promise<void>;

/** Questions to monitors, some at a time. What is not answered is asked again, for ten minutes. */
export interface Questions {
  /** Nothing is being asked, and nothing waits for an answer. */
  readonly isIdle: boolean;
  add(question: Question): void;
  /** Not awaited by anybody: a monitor whose store is away keeps nothing up. */
  ask(): void;
  close(): void;
}

const ASKED_AT_ONCE = 16;
/** The store of a process that starts may not be connected yet. */
const RETRY_MS = 1_000;
const REPORT_AT_TRY = 5;
const MOST_TRIES = 600;

/** `onSilence` is called once a monitor has been silent for some tries. */
export function createQuestions(
  onSilence: (failure: unknown, unanswered: number) => void,
): Questions {
  const waiting: Question[] = [];
  let isAsking = false;
  let isClosed = false;
  let tries = 0;
  let retry: NodeJS.Timeout | undefined;

  async function askAll(): Promise<void> {
    if (isAsking || retry) return;
    isAsking = true;
    const unanswered: Question[] = [];
    let failure: unknown;
    for (let isThere = true; isThere && waiting.length > 0 && !isClosed; ) {
      const some = waiting.splice(0, ASKED_AT_ONCE);
      const answers = await Promise.allSettled(some.map((question) => question()));
      isThere = answers.some(({ status }) => status === "fulfilled");
      for (const [index, answer] of answers.entries()) {
        if (answer.status === "fulfilled") continue;
        failure = answer.reason;
        unanswered.push(some[index] as Question);
      }
    }
    isAsking = false;
    waiting.push(...unanswered);
    if (unanswered.length > 0) askAgain(failure);
    else tries = 0;
  }

  function askAgain(failure: unknown): void {
    if (isClosed) return;
    tries += 1;
    if (tries === REPORT_AT_TRY) onSilence(failure, waiting.length);
    if (tries === MOST_TRIES) {
      waiting.length = 0;
      tries = 0;
    }
    retry = setTimeout(() => {
      retry = undefined;
      void askAll();
    }, RETRY_MS);
  }

  return {
    get isIdle() {
      return waiting.length === 0 && !isAsking;
    },
    add: (question) => void waiting.push(question),
    ask: () => void askAll(),
    close() {
      isClosed = true;
      clearTimeout(retry);
    },
  };
}
