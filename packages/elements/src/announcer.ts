/** Between two announcements, so that a screen reader is not kept talking. */
const PAUSE_MS = 4_000;

/**
 * Says the newest sentence, at once if it has been quiet for a while, else when it has. Sentences
 * that are the same as the last one said are not said again.
 */
export class Announcer {
  readonly #say: (sentence: string) => void;
  #newest = "";
  #said = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(say: (sentence: string) => void) {
    this.#say = say;
  }

  announce(sentence: string): void {
    this.#newest = sentence;
    if (this.#timer === undefined) this.#next();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #next(): void {
    this.#timer = undefined;
    if (this.#newest === this.#said) return;
    this.#said = this.#newest;
    this.#say(this.#said);
    this.#timer = setTimeout(() => this.#next(), PAUSE_MS);
  }
}
