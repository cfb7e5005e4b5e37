const ESC = "\u001b";
/** An escape sequence, or one character. */
const TOKEN = new RegExp(`${ESC}\\[[?\\d;]*[A-Za-z]|[\\s\\S]`, "gu");

/**
 * A terminal that understands what the program may write, and nothing else: text, CR, LF, erasing,
 * moving the cursor, hiding it, colours. Anything else is an error: nothing hostile gets through unseen.
 * One character is one column.
 */
export class Screen {
  readonly isTTY = true;
  columns: number;
  rows: number;
  cursorHidden = false;
  #lines: string[] = [""];
  #row = 0;
  #column = 0;
  readonly #resized = new Set<() => void>();

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
  }

  /** All that stands there, what was scrolled away too; without the empty rest. */
  get text(): string {
    return this.#lines
      .map((line) => line.trimEnd())
      .join("\n")
      .trimEnd();
  }

  on(_event: "resize", listener: () => void): void {
    this.#resized.add(listener);
  }

  off(_event: "resize", listener: () => void): void {
    this.#resized.delete(listener);
  }

  get listeners(): number {
    return this.#resized.size;
  }

  /** As terminals do that fold: lines that are too wide now take several rows. */
  resize(columns: number, rows = this.rows): void {
    const folded: string[] = [];
    let row = this.#row;
    this.#lines.forEach((line, at) => {
      const pieces = line.trimEnd().match(new RegExp(`.{1,${columns}}`, "gu")) ?? [""];
      if (at === this.#row) row = folded.length + pieces.length - 1;
      folded.push(...pieces);
    });
    this.#lines = folded;
    this.#row = row;
    this.columns = columns;
    this.rows = rows;
    for (const listener of this.#resized) listener();
  }

  write(text: string): void {
    for (const [token] of text.matchAll(TOKEN)) this.#take(token);
  }

  #take(token: string): void {
    if (token === "\n") {
      this.#row += 1;
      this.#column = 0;
      if (this.#row === this.#lines.length) this.#lines.push("");
    } else if (token === "\r") this.#column = 0;
    else if (token.startsWith("\u001b")) this.#obey(token.slice(2));
    else if (/\p{Cc}/u.test(token))
      throw new Error(`a control character: ${JSON.stringify(token)}`);
    else this.#print(token);
  }

  #print(character: string): void {
    if (this.#column >= this.columns) throw new Error("a line was wider than the terminal");
    const line = [...(this.#lines[this.#row] ?? "").padEnd(this.#column)];
    line[this.#column] = character;
    this.#lines[this.#row] = line.join("");
    this.#column += 1;
  }

  #obey(sequence: string): void {
    const count = Number.parseInt(sequence, 10) || 1;
    if (sequence === "?25l") this.cursorHidden = true;
    else if (sequence === "?25h") this.cursorHidden = false;
    else if (sequence.endsWith("m")) return;
    else if (sequence === "2K") this.#lines[this.#row] = "";
    else if (sequence === "G") this.#column = 0;
    else if (/^\d*A$/.test(sequence)) {
      this.#row = Math.max(0, this.#lines.length - this.rows, this.#row - count);
    } else throw new Error(`an escape sequence: ${sequence}`);
  }
}
