import {
  type Frame,
  SUBPROTOCOL,
  TOKEN_PROTOCOL,
  type ViewerMessage,
} from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Host, WebSocketConstructor, WebSocketLike } from "./host.js";
import {
  asError,
  CHECK_MS,
  errorOf,
  type Link,
  type LinkListener,
  lost,
  parse,
  watchdog,
} from "./link.js";
import { codes } from "./request.js";

export interface SocketOptions {
  host: Host;
  WebSocket: WebSocketConstructor;
  url: string;
  token(): Promise<string | undefined>;
}

/** PROTOCOL.md, close codes: 44xx is final but for two, anything else means that the line is lost. */
function closing(code: number, reason: string, url: string): MonitorClientError {
  const retryable = code < 4400 || code === 4408 || code === 4429;
  const known = retryable ? "unreachable" : (codes[code - 4_000] ?? "bad_request");
  return new MonitorClientError(known, reason || lost(url, code), { retryable });
}

const base64url = (text: string): string =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=/g, "");

/** WebSocket: one socket for all jobs, in mode delta. */
export function openSocket(
  { host, WebSocket, url, token }: SocketOptions,
  listener: LinkListener,
): Link {
  /** Where the jobs begin that are asked for when the socket is open. */
  const asked = new Map<string, string | undefined>();
  let socket: WebSocketLike | undefined;
  let open = false;
  let closed = false;
  /** The last `error` frame of the whole connection. */
  let goodbye: MonitorClientError | undefined;

  const silence = watchdog(host, url, (error) => fail(error, true));

  function close(): void {
    closed = true;
    silence.stop();
    socket?.close();
  }

  function fail(error: MonitorClientError, silent?: boolean): void {
    if (closed) return;
    close();
    listener.down(error, silent);
  }

  const send = (message: ViewerMessage) => socket?.send(JSON.stringify(message));

  function subscribe(jobId: string, after: string | undefined): void {
    send({ type: "subscribe", jobId, mode: "delta", ...(after && { after }) });
  }

  function receive(frame: Frame): void {
    silence.heard(frame);
    if (frame.type !== "error") listener.frame(frame);
    else if (frame.jobId === undefined) goodbye = errorOf(frame);
    else listener.refused(frame.jobId, errorOf(frame));
  }

  function connect(bearer: string | undefined): void {
    if (closed) return;
    const protocols = [SUBPROTOCOL];
    if (bearer) protocols.push(TOKEN_PROTOCOL + base64url(bearer));
    socket = new WebSocket(url, protocols);
    socket.onopen = () => {
      open = true;
      for (const [jobId, after] of asked) subscribe(jobId, after);
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (closed) return;
      try {
        receive(parse<Frame>(data, url, "type"));
      } catch (error) {
        fail(asError(error, url));
      }
    };
    socket.onerror = () => {}; // `close` follows
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      fail(goodbye ?? closing(code, reason, url));
    };
  }

  token()
    .then(connect)
    .catch((thrown: unknown) => fail(asError(thrown, url)));
  return {
    watch(jobId, after) {
      if (open) subscribe(jobId, after);
      else asked.set(jobId, after);
    },
    unwatch(jobId) {
      asked.delete(jobId);
      if (open) send({ type: "unsubscribe", jobId });
    },
    check() {
      if (!open) return;
      silence.expect(CHECK_MS);
      send({ type: "ping" });
    },
    close,
  };
}
