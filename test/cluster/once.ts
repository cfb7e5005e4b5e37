import type { Frame } from "@org/workflow-monitor";

type Event = { message?: string | null };

/** Where each message was seen: one that was published once, or under one id, is in a log once. */
export class Once {
  /** Messages that stand at two revisions of one epoch. */
  readonly twice: string[] = [];
  readonly #forgiven = new Set<string>();
  /** By job and epoch. */
  readonly #logs = new Map<string, { messages: Map<string, number>; seen: Set<number> }>();

  get epochs(): number {
    return this.#logs.size;
  }

  /** A log lost what it remembered these by, while they were on their way to it. */
  forgive(messages: Iterable<string>): void {
    for (const message of messages) this.#forgiven.add(message);
  }

  saw(jobId: string, frame: Frame): void {
    if (frame.type !== "snapshot" && frame.type !== "update") return;
    const [epoch = "", revision] = frame.cursor.split(".");
    const events = frame.type === "snapshot" ? frame.events : [frame.event];
    const before = Number(revision) - events.length;
    this.#log(jobId, epoch);
    for (const [at, event] of events.entries())
      this.#event(jobId, epoch, before + at + 1, event as Event);
  }

  #event(jobId: string, epoch: string, revision: number, { message }: Event): void {
    const { messages, seen } = this.#log(jobId, epoch);
    if (seen.has(revision)) return;
    seen.add(revision);
    if (message === undefined || message === null) return;
    const other = messages.get(message);
    if (other === undefined) messages.set(message, revision);
    else if (!this.#forgiven.has(message))
      this.twice.push(`${message}: at ${epoch}.${other} and at ${epoch}.${revision}`);
  }

  #log(jobId: string, epoch: string) {
    const name = `${jobId} ${epoch}`;
    const log = this.#logs.get(name) ?? { messages: new Map(), seen: new Set() };
    this.#logs.set(name, log);
    return log;
  }
}
