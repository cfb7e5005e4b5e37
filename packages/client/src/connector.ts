import type { Frame } from "@org/workflow-monitor/protocol";
import { closedError } from "./errors.js";
import type { Host } from "./host.js";
import { idleLine, type Line, type LineEvent, next } from "./line.js";
import type { Link, LinkListener } from "./link.js";
import type { Carrier, Subscription } from "./subscription.js";
import type { ClientTransport, Connection, ConnectionState } from "./types.js";

export interface ConnectorOptions {
  readonly host: Host;
  readonly transports: readonly ClientTransport[];
  open(transport: ClientTransport, listener: LinkListener): Link;
  /** Reads a job from the subscription's cursor on, past the links: what one would say. Does not reject. */
  reread(subscription: Subscription): Promise<readonly Frame[]>;
}

export interface Connector extends Carrier {
  find(jobId: string): Subscription | undefined;
  add(subscription: Subscription): void;
  connectionOf(subscription: Subscription): Connection;
  close(): void;
}

/** Drives the line: tells it what happens, and keeps the links and the timer that it speaks of. */
export function createConnector({ host, transports, open, reread }: ConnectorOptions): Connector {
  const subscriptions = new Map<string, Subscription>();
  /** By rung. */
  const links = new Map<number, Link>();
  let line = idleLine(transports.length);
  let cancelTimer = () => {};
  let retryAt: number | null = null;
  let offline = false;
  let stale = false;

  const stopListening = host.onNetwork((event) => {
    offline = event === "offline";
    for (const link of links.values()) link.check();
    if (!offline) apply({ type: "wake" });
    tell();
  });

  /** Of those that there are now: what is done may end some of them. */
  function each(act: (subscription: Subscription) => void): void {
    for (const subscription of [...subscriptions.values()]) act(subscription);
  }

  function tell(): void {
    each((subscription) => subscription.connected());
  }

  function apply(event: LineEvent): void {
    const before = line;
    line = next(before, event);
    const { state, timer, cause } = line;
    if (line === before) return;
    if (timer !== before.timer) {
      cancelTimer();
      retryAt = timer && state === "waiting" ? host.now() + timer.ms : null;
      if (timer) cancelTimer = host.setTimeout(() => apply({ type: "timer" }), timer.ms);
    }
    keepLinks(line);
    if (state !== "idle" || !cause) tell();
    // Without a network nobody can be blamed for not answering.
    else if (offline && cause.code === "unreachable") apply({ type: "want" });
    else each((subscription) => subscription.end(cause));
  }

  /** Closes the links that are not spoken of any more, opens those that are not there. */
  function keepLinks({ state, rung, trying }: Line): void {
    const wanted = state === "idle" || state === "waiting" ? [] : [rung, trying];
    for (const [on, link] of links) {
      if (wanted.includes(on)) continue;
      links.delete(on);
      link.close();
    }
    for (const on of wanted) {
      if (on === null || links.has(on)) continue;
      if (on === rung) {
        stale = false;
        each((subscription) => subscription.unanswer());
      }
      openLink(on);
    }
  }

  function openLink(rung: number): void {
    const up = () => apply({ type: "up", rung, chance: host.random() });
    const link = open(transports[rung] as ClientTransport, {
      up,
      frame(frame) {
        if ("jobId" in frame) up(); // as nobody but a monitor says it
        take(frame);
      },
      refused(jobId, error) {
        up();
        find(jobId)?.refuse(error);
      },
      down(error, silent) {
        // What was swallowed may have been the end.
        if (silent) each((subscription) => void readAnew(subscription));
        apply({ type: "down", rung, error, chance: host.random() });
      },
    });
    links.set(rung, link);
    each(({ jobId, cursor }) => link.watch(jobId, cursor));
  }

  function take(frame: Frame): void {
    if (frame.type !== "heartbeat") find(frame.jobId as string)?.take(frame);
    else {
      stale = frame.stale === true;
      tell();
    }
  }

  async function readAnew(subscription: Subscription): Promise<void> {
    for (const frame of await reread(subscription)) subscription.take(frame, false);
  }

  const find = (jobId: string): Subscription | undefined => subscriptions.get(jobId);

  function ask({ jobId, cursor }: Subscription): void {
    for (const link of links.values()) link.watch(jobId, cursor);
  }

  return {
    host,
    find,
    ask,
    add(subscription) {
      subscriptions.set(subscription.jobId, subscription);
      ask(subscription);
      apply({ type: "want" });
    },
    drop(subscription) {
      const { jobId } = subscription;
      // One that was never added may be of the same job as one that was.
      if (find(jobId) !== subscription) return;
      subscriptions.delete(jobId);
      for (const link of links.values()) link.unwatch(jobId);
      if (!subscriptions.size) apply({ type: "rest" });
    },
    connectionOf({ answered, refusal }) {
      const { rung, cause, waits } = line;
      const transport = transports[rung] ?? null;
      const isUp = line.state === "live" || line.state === "climbing";
      let state: ConnectionState = waits ? "reconnecting" : "connecting";
      if (isUp && answered) state = transport === "poll" ? "polling" : "live";
      else if (refusal) state = "reconnecting";
      else if (offline) state = "offline";
      return { state, transport, cause, retryAt, stale, ...refusal };
    },
    close() {
      stopListening();
      each((subscription) => subscription.end(closedError()));
    },
  };
}
