/** What the platform tells of the network: when it changes, and of a page that is looked at again. */
export type NetworkEvent = "online" | "offline";

/** What the client uses of a WebSocket: the browser's, or that of the package `ws`. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** What the client uses of `fetch`. */
export type Fetch = (
  url: string,
  init: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<Response>;

/** The clock, chance and the network: tests bring their own. */
export interface Host {
  /** The wall clock, for times that people see: milliseconds since 1970. */
  now(): number;
  /** For durations: milliseconds, never goes back. */
  uptime(): number;
  /** Returns a function that cancels it. */
  setTimeout(fn: () => void, ms: number): () => void;
  /** From 0 to below 1. */
  random(): number;
  /** Returns a function that ends it. Nothing is told where the platform knows nothing. */
  onNetwork(listener: (event: NetworkEvent) => void): () => void;
}

export const platform: Host = {
  now: Date.now,
  uptime: () => performance.now(),
  setTimeout(fn, ms) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
  random: Math.random,
  onNetwork(listener) {
    if (typeof document === "undefined") return () => {};
    const stop = new AbortController();
    // What changes while nobody looks is told when somebody does.
    const look = () => document.hidden || listener(navigator.onLine ? "online" : "offline");
    for (const event of ["online", "offline", "visibilitychange"]) {
      addEventListener(event, look, stop);
    }
    look();
    return () => stop.abort();
  },
};
