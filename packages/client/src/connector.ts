import type { Frame } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";
import { idleLine, type Line, type LineEvent, next } from "./line.js";
import type { Link, LinkListener } from "./link.js";
import type { Carrier, Subscription } from "./subscription.js";
import type { ClientTransport, Connection } from "./types.js";

export interface ConnectorOptions {
  readonly host: Host;
  readonly transports: readonly ClientTransport[];
  open(transport: ClientTransport, listener: LinkListener): Link;
  /** Reads a job anew, past the link, from the subscription's cursor on: what a link would say. Does not reject. */
  reread(subscription: Subscription): Promise<readonly Frame[]>;
}

/** Drives the line: does what the difference of two of its states says, and tells it what happens. */
export class Connector implements Carrier {
  readonly host: Host;
  readonly #options: ConnectorOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #stopListening: () => void;
  #line: Line;
  #link: Link | undefined;
  /** The better link that is tried while climbing. */
  #probe: Link | undefined;
  #cancelTimer: () => void = () => {};
  #retryAt: number | null = null;
  #offline = false;
  #stale = false;

  constructor(options: ConnectorOptions) {
    this.#options = options;
    this.host = options.host;
    this.#line = idleLine(options.transports.length);
    this.#stopListening = this.host.onNetwork((event) => {
      if (event !== "wake") this.#offline = event === "offline";
      this.#apply({ type: event });
      this.#link?.check();
    });
  }

  // ── subscriptions ──────────────────────────────────────────────────────────────────────────────

  find(jobId: string): Subscription | undefined {
    return this.#subscriptions.get(jobId);
  }

  add(subscription: Subscription): void {
    this.#subscriptions.set(subscription.jobId, subscription);
    this.#link?.watch(subscription.jobId, subscription.cursor);
    this.#probe?.watch(subscription.jobId, subscription.cursor);
    this.#apply({ type: "want" });
  }

  restart(subscription: Subscription): void {
    this.#link?.watch(subscription.jobId, subscription.cursor);
  }

  drop(subscription: Subscription): void {
    if (this.#subscriptions.get(subscription.jobId) !== subscription) return;
    this.#subscriptions.delete(subscription.jobId);
    this.#link?.unwatch(subscription.jobId);
    this.#probe?.unwatch(subscription.jobId);
    if (this.#subscriptions.size === 0) this.#apply({ type: "rest" });
  }

  connectionOf(subscription: Subscription): Connection {
    const { state, rung, cause, waits } = this.#line;
    const transport = this.#options.transports[rung] ?? null;
    const { answered, refusal } = subscription;
    const stale = this.#stale;
    const at = (now: Connection["state"], error: MonitorClientError | null = null): Connection => ({
      state: now,
      transport,
      cause: error,
      retryAt: null,
      stale,
    });
    if (refusal) return { ...at("reconnecting", refusal.error), retryAt: refusal.retryAt };
    if (state === "live" || state === "climbing") {
      return answered ? at(transport === "poll" ? "polling" : "live") : at("connecting");
    }
    if (state === "offline") return { ...at("offline", cause), retryAt: this.#retryAt };
    if (state === "waiting") return { ...at("reconnecting", cause), retryAt: this.#retryAt };
    return at(waits > 0 ? "reconnecting" : "connecting", cause);
  }

  // ── the line ───────────────────────────────────────────────────────────────────────────────────

  #apply(event: LineEvent): void {
    const before = this.#line;
    const line = next(before, event);
    if (line === before) return;
    this.#line = line;
    if (line.timer !== before.timer) this.#setTimer(line);
    this.#changeLinks(before, line);
    if (this.#line !== line) return; // what was done has led further, and told
    if (line.state === "failed") this.#failAll(line.cause);
    else for (const { viewers } of this.#all()) for (const viewer of viewers) viewer.connected();
    if (line.state === "waiting" && this.#offline) this.#apply({ type: "offline" });
  }

  readonly #all = (): Subscription[] => [...this.#subscriptions.values()];

  #setTimer({ timer, state }: Line): void {
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    this.#retryAt = timer && state !== "live" ? this.host.now() + timer.ms : null;
    if (timer)
      this.#cancelTimer = this.host.setTimeout(() => this.#apply({ type: "timer" }), timer.ms);
  }

  #changeLinks(before: Line, line: Line): void {
    if (line.trying !== before.trying) {
      const probe = this.#probe;
      this.#probe = undefined;
      // It has won, or it is all that is left.
      const promoted = line.rung === before.trying && line.attempt !== before.attempt;
      if (!promoted) probe?.close();
      else if (probe) {
        this.#link?.close();
        this.#link = probe;
        if (line.state === "connecting") for (const each of this.#all()) each.unanswer();
      }
      if (line.trying !== null) this.#probe = this.#open(line.trying);
      if (promoted) return;
    }
    const isOpen =
      line.state === "connecting" || line.state === "live" || line.state === "climbing";
    if (isOpen && line.attempt === before.attempt) return;
    this.#link?.close();
    this.#link = undefined;
    this.#stale = false;
    for (const each of this.#all()) each.unanswer();
    if (isOpen) this.#link = this.#open(line.rung);
  }

  #failAll(cause: MonitorClientError | null): void {
    for (const each of this.#all()) if (cause) each.fail(cause);
  }

  /** A link that watches what is to be watched. What it tells depends on what it is when it tells it. */
  #open(rung: number): Link {
    const chance = () => this.host.random();
    const main = () => link === this.#link;
    const listener: LinkListener = {
      up: () => this.#apply({ type: main() ? "up" : "climbed", chance: chance() }),
      frame: (frame) => this.#take(frame),
      refused: (jobId, error) => main() && this.#subscriptions.get(jobId)?.refuse(error),
      down: (error, silent) => {
        if (!main()) return this.#apply({ type: "slipped", chance: chance() });
        if (silent) for (const each of this.#all()) void this.#reread(each);
        this.#apply({ type: "down", error, chance: chance() });
      },
    };
    const transport = this.#options.transports[rung];
    if (!transport) throw new RangeError(`There is no transport ${rung}.`);
    const link = this.#options.open(transport, listener);
    for (const { jobId, cursor } of this.#all()) link.watch(jobId, cursor);
    return link;
  }

  #take(frame: Frame): void {
    if (frame.type === "heartbeat") {
      const stale = frame.stale === true;
      if (stale === this.#stale) return;
      this.#stale = stale;
      for (const { viewers } of this.#all()) for (const viewer of viewers) viewer.connected();
    } else if ("jobId" in frame && frame.jobId !== undefined) {
      this.#subscriptions.get(frame.jobId)?.take(frame);
    }
  }

  /** A line that is silent may have swallowed the end: the state comes past it. */
  async #reread(subscription: Subscription): Promise<void> {
    for (const frame of await this.#options.reread(subscription)) subscription.take(frame);
  }

  close(): void {
    this.#apply({ type: "close" });
    this.#stopListening();
    const error = new MonitorClientError(
      "closed",
      "The client was closed before the job was over.",
    );
    for (const each of this.#all()) each.fail(error);
  }
}
