import type { Connection } from "./connection.js";

interface Channel {
  listeners: Set<(message: string) => void>;
  subscribed: Promise<void>;
}

/** Who hears what: any number of listeners, one subscription a channel. */
export class Subscriptions {
  readonly #connection: Connection;
  readonly #channels = new Map<string, Channel>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  hear(name: string, message: string): void {
    for (const listener of [...(this.#channels.get(name)?.listeners ?? [])]) listener(message);
  }

  /** Resolves when live, to what stops it. */
  async follow(name: string, listener: (message: string) => void): Promise<() => void> {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = { listeners: new Set(), subscribed: this.#connection.subscribe(name) };
      this.#channels.set(name, channel);
    }
    const { listeners, subscribed } = channel;
    // A function of its own, so that one listener may follow twice.
    const own = (message: string) => listener(message);
    listeners.add(own);
    const unfollow = () => {
      if (!listeners.delete(own) || listeners.size > 0) return;
      this.#channels.delete(name);
      this.#connection.unsubscribe(name);
    };
    try {
      await subscribed;
    } catch (thrown) {
      unfollow();
      throw thrown;
    }
    return unfollow;
  }
}
