import {
  CloseCode,
  type ErrorFrame,
  type Frame,
  SUBPROTOCOL,
  type ViewerMessage,
} from "@org/workflow-monitor/protocol";
import { type ClientErrorCode, MonitorClientError } from "./errors.js";
import type { Host, WebSocketConstructor, WebSocketLike } from "./host.js";
import {
  ANSWER_MS,
  badAnswer,
  CHECK_MS,
  type Link,
  type LinkListener,
  parseFrame,
  silence,
  unreachable,
  Watchdog,
} from "./link.js";

export interface SocketOptions {
  host: Host;
  WebSocket: WebSocketConstructor;
  url: string;
  token(): Promise<string | undefined>;
}

/** How a token gets through a handshake that has no headers. PROTOCOL.md. */
const TOKEN_PROTOCOL = "workflow-monitor.token.";

function base64url(text: string): string {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** What a close code says that no `error` frame has said before. PROTOCOL.md, close codes. */
const codes: Record<number, [code: ClientErrorCode, retryable: boolean, message: string]> = {
  [CloseCode.internal]: ["internal", true, "The server has failed: trying again."],
  [CloseCode.restarting]: ["draining", true, "The server is going away: trying again."],
  [CloseCode.overloaded]: ["unavailable", true, "The server is overloaded: trying again."],
  [CloseCode.tokenExpired]: ["unauthorized", true, "The token has expired: asking for another."],
  [CloseCode.badRequest]: ["bad_request", false, "The server does not understand this client."],
  [CloseCode.unauthorized]: ["unauthorized", false, "The server does not accept the token."],
  [CloseCode.forbidden]: ["forbidden", false, "The server refuses this client."],
  [CloseCode.unknownJob]: ["unknown_job", false, "There is no such job, or you may not see it."],
  [CloseCode.unsupportedVersion]: [
    "unsupported_version",
    false,
    "The server speaks another version of the protocol: update this client.",
  ],
  [CloseCode.tooSlowToSubscribe]: ["subscribe_timeout", true, "The server has not heard in time."],
  [CloseCode.tooMany]: ["too_many_viewers", true, "The server has too many viewers."],
};

export function errorOf(frame: ErrorFrame): MonitorClientError {
  const { code, message, retryable, jobId, retryAfterMs } = frame;
  return new MonitorClientError(code, message, {
    retryable,
    ...(jobId !== undefined && { jobId }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/** WebSocket: one socket for all jobs, in mode delta. */
export function openSocket(options: SocketOptions, listener: LinkListener): Link {
  const { host, url } = options;
  /** The jobs that were asked for before the socket was open, or whose answer is not here yet. */
  const asked = new Map<string, { after: string | undefined; at: number }>();
  const watchdog = new Watchdog(host, (ms) => fail(silence(ms), true));
  let socket: WebSocketLike | undefined;
  let open = false;
  let closed = false;
  /** The last `error` frame for the whole connection. */
  let goodbye: MonitorClientError | undefined;

  function fail(error: MonitorClientError, silent = false): void {
    if (closed) return;
    close();
    listener.down(error, silent);
  }

  function close(): void {
    closed = true;
    watchdog.stop();
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // of `ws`, one that is closed while it connects
    socket.close();
  }

  const send = (message: ViewerMessage): void => socket?.send(JSON.stringify(message));

  function subscribe(jobId: string, after: string | undefined): void {
    send({ type: "subscribe", jobId, mode: "delta", ...(after !== undefined && { after }) });
  }

  function receive(frame: Frame): void {
    watchdog.heard();
    if (frame.type === "snapshot") watchdog.heartbeatMs = frame.heartbeatMs;
    if ("jobId" in frame && frame.jobId !== undefined) asked.delete(frame.jobId);
    if (frame.type === "error") {
      const error = errorOf(frame);
      if (error.jobId === undefined) {
        goodbye = error;
        return;
      }
      listener.up();
      listener.refused(error.jobId, error);
      return;
    }
    listener.up();
    if (closed) return;
    listener.frame(frame);
    // Something comes, but not what was asked for.
    const now = host.now();
    for (const { at } of asked.values())
      if (now - at > 2 * ANSWER_MS) return fail(silence(now - at), true);
  }

  function connect(token: string | undefined): void {
    if (closed) return;
    const protocols = [SUBPROTOCOL];
    if (token !== undefined) protocols.push(TOKEN_PROTOCOL + base64url(token));
    try {
      socket = new options.WebSocket(url, protocols);
    } catch (cause) {
      return fail(badAnswer(`No WebSocket can be opened to ${url}: check \`url\`.`, cause));
    }
    socket.onopen = () => {
      open = true;
      for (const [jobId, { after }] of asked) subscribe(jobId, after);
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      try {
        receive(parseFrame(typeof data === "string" ? data : ""));
      } catch (error) {
        fail(error as MonitorClientError);
      }
    };
    socket.onerror = () => {}; // `close` follows
    socket.onclose = ({ code }: { code: number }) => fail(goodbye ?? closing(code, url));
  }

  options.token().then(connect, (error: MonitorClientError) => fail(error));
  return {
    watch(jobId, after) {
      asked.set(jobId, { after, at: host.now() });
      if (open) subscribe(jobId, after);
    },
    unwatch(jobId) {
      asked.delete(jobId);
      if (open) send({ type: "unsubscribe", jobId });
    },
    check() {
      if (!open) return;
      watchdog.expect(CHECK_MS);
      send({ type: "ping" });
    },
    close,
  };
}

function closing(code: number, url: string): MonitorClientError {
  const known = codes[code];
  if (!known) return unreachable(`The connection to ${url} is lost (${code}): connecting again.`);
  const [name, retryable, message] = known;
  return new MonitorClientError(name, message, { retryable });
}
