import { type Logger, WorkflowMonitorError } from "@org/workflow-monitor";
import { Command, Redis, type RedisOptions } from "ioredis";
import { isDamage, remedyFor, wordsOf } from "./replies.js";
import type { Script } from "./scripts.js";
import type { Warnings } from "./warnings.js";

export interface ConnectionOptions {
  url: string | undefined;
  redis: RedisOptions | undefined;
  timeoutMs: number;
  logger: Logger;
  warnings: Warnings;
}

/** What scripts answer. */
type Reply = string | number | null | Reply[];

const RETRY_MS = { first: 50, most: 2_000 };
/** How long a Redis that does not let write is stayed with before it is left again. */
const STAY_MS = { first: 1_000, most: 30_000 };

/**
 * Two connections to one Redis, one for commands and one that subscribes. It is there when both are,
 * to the same process, with everything subscribed again.
 *
 * Nothing is queued while it is away and nothing is sent twice: what was sent on a connection that
 * broke is rejected, and nobody knows what became of it.
 */
export class Connection {
  readonly #commands: Redis;
  readonly #subscriber: Redis;
  readonly #options: ConnectionOptions;
  readonly #onMessage: (channel: string, message: string) => void;
  /** Channels to subscribe to after a reconnect. */
  readonly #channels = new Set<string>();
  readonly #listeners = new Set<(there: boolean) => void>();
  /** The run id of the process behind each of them; it cannot change under a connection. */
  #life: string | undefined;
  #subscribedTo: string | undefined;
  #there = false;
  #closed = false;
  /** Until it was there once, calls wait for it. */
  #starting: Promise<unknown> | undefined;
  #endStarting = () => {};
  readonly #ping: NodeJS.Timeout;
  /** Why it could not be connected to last. */
  #trouble = "not connected";
  #stayMs = STAY_MS.first;
  #stayUntil = 0;

  constructor(options: ConnectionOptions, onMessage: (channel: string, message: string) => void) {
    this.#options = options;
    this.#onMessage = onMessage;
    this.#starting = new Promise<void>((resolve) => {
      this.#endStarting = resolve;
    });
    this.#commands = this.#connect(
      async () => {},
      (life) => {
        this.#life = life;
      },
    );
    this.#subscriber = this.#connect(
      () => this.#subscribeAll(),
      (life) => {
        this.#subscribedTo = life;
      },
    );
    this.#subscriber.on("message", this.#onMessage);
    // One that is silent is asked whether it still is one.
    this.#ping = setInterval(() => {
      for (const redis of [this.#commands, this.#subscriber])
        if (redis.status === "ready") redis.ping().catch(() => {});
    }, options.timeoutMs);
    this.#ping.unref();
  }

  /** Tells at once, and at each change, whether it is there. */
  listen(listener: (there: boolean) => void): () => void {
    const own = (there: boolean) => listener(there);
    this.#listeners.add(own);
    own(this.#there);
    return () => this.#listeners.delete(own);
  }

  /** Runs a script; its first argument is the run id of the process that it runs in. */
  run(script: Script, keys: string[], args: (string | number)[]): Promise<Reply> {
    if (this.#life !== undefined) return this.#send(script, [...keys, this.#life, ...args]);
    return this.#started().then((life) => this.#send(script, [...keys, life, ...args]));
  }

  #send(script: Script, words: (string | number)[]): Promise<Reply> {
    this.#gather();
    const evalsha = new Command("evalsha", [script.sha, script.keys, ...words] as never, {
      replyEncoding: "utf8",
    });
    const sent = this.#commands.sendCommand(evalsha) as Promise<Reply>;
    return sent.catch((thrown: Error) => {
      if (!thrown.message.startsWith("NOSCRIPT")) throw this.#failure(thrown, this.#commands);
      // In the same turn: it is still the same connection.
      return this.#commands.eval(script.lua, script.keys, ...words).catch((again) => {
        throw this.#failure(again, this.#commands);
      }) as Promise<Reply>;
    });
  }

  /** What is sent in one turn of the event loop leaves in one piece. */
  #gather(): void {
    const { stream } = this.#commands;
    if (stream.writableCorked > 0) return;
    stream.cork();
    setImmediate(() => stream.uncork());
  }

  /** Resolves when what is published to a channel is heard. */
  async subscribe(channel: string): Promise<void> {
    if (!this.#there) await this.#started();
    this.#channels.add(channel);
    try {
      await this.#subscriber.subscribe(channel);
    } catch (thrown) {
      throw this.#failure(thrown, this.#subscriber);
    }
  }

  unsubscribe(channel: string): void {
    this.#channels.delete(channel);
    if (this.#subscriber.status === "ready") this.#subscriber.unsubscribe(channel).catch(() => {});
  }

  async publish(channel: string, message: string): Promise<void> {
    if (!this.#life) await this.#started();
    try {
      await this.#commands.publish(channel, message);
    } catch (thrown) {
      throw this.#failure(thrown, this.#commands);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#ping);
    this.#listeners.clear();
    this.#endStarting();
    this.#life = undefined;
    this.#commands.disconnect();
    this.#subscriber.disconnect();
  }

  assertOpen(): void {
    if (this.#closed) throw new WorkflowMonitorError("closed", "The store is closed.");
  }

  /**
   * @param prepare what is to be done on a new connection before it is of use
   * @param onLife hears the run id of the process that it is connected to, undefined when it is not
   */
  #connect(prepare: () => Promise<void>, onLife: (life: string | undefined) => void): Redis {
    const { url, redis: given, timeoutMs } = this.#options;
    // Since it was of use: ioredis itself counts from the last connect.
    let tries = 0;
    const options: RedisOptions = {
      connectTimeout: timeoutMs,
      retryStrategy: () => {
        tries += 1;
        return Math.min(RETRY_MS.first * 2 ** tries, RETRY_MS.most) * (0.5 + Math.random() / 2);
      },
      reconnectOnError: ({ message }) => message.startsWith("READONLY") && this.#leaves(),
      // A master that was only paused does not know that it is not one any more: Sentinel does.
      failoverDetector: true,
      ...given,
      // What the guarantees rest on.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      autoResubscribe: false,
      maxRetriesPerRequest: 0,
      socketTimeout: timeoutMs,
      // The INFO below is the check.
      enableReadyCheck: false,
    };
    // Its types do not fit under exactOptionalPropertyTypes.
    const plain = options as object;
    const redis = url === undefined ? new Redis(plain) : new Redis(url, plain);
    redis.on("error", (err: unknown) => this.#tellTrouble(err));
    let session = 0;
    const change = (life: string | undefined) => {
      onLife(life);
      this.#look();
    };
    redis.on("close", () => {
      session += 1;
      change(undefined);
    });
    // A failover in the middle of a try makes the client give up for good.
    redis.on("end", () => {
      const again = () => {
        if (!this.#closed) redis.connect().catch(() => {});
      };
      setTimeout(again, RETRY_MS.first);
    });
    redis.on("ready", () => {
      session += 1;
      const own = session;
      const begin = async () => {
        const info = await redis.info("server", "persistence");
        const [, life] = /^run_id:(\w+)/m.exec(info) ?? [];
        if (life === undefined) throw new Error("INFO does not tell the run id");
        if (/^loading:1/m.test(info)) throw new Error("LOADING Redis is loading its data");
        await prepare();
        if (own !== session) return;
        tries = 0;
        change(life);
      };
      begin().catch((err: unknown) => {
        if (own !== session) return; // it was closed meanwhile
        this.#tellTrouble(err);
        redis.disconnect(true);
      });
    });
    return redis;
  }

  /** Not the error itself: that of a reply has the command with it, which may be the password's. */
  #tellTrouble(thrown: unknown): void {
    if (this.#closed) return;
    this.#trouble = wordsOf(thrown);
    const remedy = remedyFor(this.#trouble);
    this.#options.warnings.say(`Redis cannot be used (${this.#trouble}): ${remedy}.`);
  }

  /**
   * Whether to connect again when Redis does not let write. A demoted master is left at once, since the next
   * connection leads to another; a replica that stays one is left less and less often.
   */
  #leaves(): boolean {
    const now = performance.now();
    if (now < this.#stayUntil) return false;
    const settled = now > this.#stayUntil + STAY_MS.most;
    this.#stayMs = settled ? STAY_MS.first : Math.min(2 * this.#stayMs, STAY_MS.most);
    this.#stayUntil = now + this.#stayMs;
    return true;
  }

  async #subscribeAll(): Promise<void> {
    const channels = [...this.#channels];
    for (let at = 0; at < channels.length; at += 1_000) {
      // Some may have been given up while the ones before were subscribed.
      const some = channels.slice(at, at + 1_000).filter((name) => this.#channels.has(name));
      if (some.length > 0) await this.#subscriber.subscribe(...some);
    }
  }

  #look(): void {
    if (this.#closed) return;
    const there = this.#life !== undefined && this.#life === this.#subscribedTo;
    // One of them was late to leave a process that is not the master any more.
    if (!there && this.#life && this.#subscribedTo) {
      this.#commands.disconnect(true);
      this.#subscriber.disconnect(true);
    }
    if (there === this.#there) return;
    this.#there = there;
    if (there) {
      this.#starting = undefined;
      this.#trouble = "not connected";
      this.#endStarting();
    }
    this.#options.logger.info({}, there ? "Redis is there" : "Redis is away");
    for (const listener of [...this.#listeners]) listener(there);
  }

  /** Before its socket says that it is closed: who asked in vain hears it after everybody else. */
  #giveUp(redis: Redis): void {
    if (redis === this.#commands) this.#life = undefined;
    else this.#subscribedTo = undefined;
    if (redis.status === "ready") redis.disconnect(true);
    this.#look();
  }

  /** The life, when it comes for the first time in time. */
  async #started(): Promise<string> {
    this.assertOpen();
    if (this.#starting) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, this.#options.timeoutMs);
      });
      await Promise.race([this.#starting, late]);
      clearTimeout(timer);
      this.assertOpen();
    }
    if (this.#life === undefined || !this.#there) throw this.#failure(new Error(this.#trouble));
    return this.#life;
  }

  /** @param redis where it happened; it is given up, unless Redis itself has answered */
  #failure(cause: unknown, redis?: Redis): WorkflowMonitorError {
    if (this.#closed) return new WorkflowMonitorError("closed", "The store is closed.");
    const words = wordsOf(cause);
    const refused = (cause as Error).name === "ReplyError";
    if (refused && isDamage((cause as Error).message))
      return new WorkflowMonitorError("damaged", words);
    if (redis && !refused) this.#giveUp(redis);
    const what = refused ? "refuses a command" : "does not answer";
    return new WorkflowMonitorError(
      "unavailable",
      `Redis ${what} (${words}): ${remedyFor(words)}.`,
    );
  }
}
