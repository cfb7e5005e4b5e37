import type { Connection } from "./connection.js";

type Listener = (message: string, secret: string | undefined) => void;

interface Channel {
  listeners: Set<Listener>;
  subscribed: Promise<void>;
  /** What its messages are proven with. */
  secret: string | undefined;
}

/** Who hears what: any number of listeners, one subscription a channel. */
export class Subscriptions {
  readonly #connection: Connection;
  readonly #channels = new Map<string, Channel>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  hear(name: string, message: string): void {
    const channel = this.#channels.get(name);
    for (const listener of [...(channel?.listeners ?? [])]) listener(message, channel?.secret);
  }

  /** Remembers the secret of a channel for as long as it is followed. */
  learn(name: string, secret: string): void {
    const channel = this.#channels.get(name);
    if (channel) channel.secret = secret;
  }

  /** Resolves when live, to what stops it. */
  async follow(name: string, listener: Listener): Promise<() => void> {
    let channel = this.#channels.get(name);
    if (!channel) {
      const subscribed = this.#connection.subscribe(name);
      channel = { listeners: new Set(), subscribed, secret: undefined };
      this.#channels.set(name, channel);
    }
    const { listeners, subscribed } = channel;
    // A function of its own, so that one listener may follow twice.
    const own: Listener = (message, secret) => listener(message, secret);
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
