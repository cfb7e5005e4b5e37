import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  parseCursor,
  parseMode,
  SUBPROTOCOL,
  type WorkflowMonitor,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { WebSocketServer } from "ws";
import { Connection, type Hub } from "./connection.js";
import { readOffer } from "./offer.js";
import { declineOtherOffers, giveBack, offersWebSocket } from "./other-offers.js";

export interface WebSocketOptions {
  monitor: WorkflowMonitor;
  /**
   * Default `/ws`. Other paths are left to other upgrade handlers; where all of them are adapters like
   * this one, a path of none of them gets 404, and offers of other upgrades (`h2c`) are ignored: the
   * server answers the request.
   */
  path?: string;
  /**
   * Origins that may connect, exactly as browsers send them: `https://app.example`. Default: the same
   * host as the request's Host header. A missing Origin is no browser, and passes.
   */
  origins?: readonly string[];
}

export interface WebSocketAdapter {
  /** For hosts that own the server's `upgrade` event: the path is not looked at. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Stops taking connections, closes those there are (1012), and resolves when they are gone. Idempotent. */
  close(): Promise<void>;
}

/** A viewer has nothing long to say. */
const MAX_MESSAGE_BYTES = 4 * 1024;
const MAX_FRAGMENTS = 64;
const CLOSE_TIMEOUT_MS = 2_000;

/** What an adapter's listener carries: its path. Another copy of this module, or version, finds it, too. */
const PATH = Symbol.for("@org/workflow-monitor-ws.path");

/**
 * Serves `GET <path>[?jobId=<id>[&after=<cursor>][&mode=full|delta]]` as WebSocket, on any
 * `http.Server`. With `server` null, call `handleUpgrade` yourself. Throws when the server has an
 * adapter for this path that is not closed: two would answer one socket.
 */
export function attachWebSocket(
  server: Server | null,
  options: WebSocketOptions,
): WebSocketAdapter {
  const { monitor, path = "/ws", origins } = options;
  if (server && upgradePaths(server).includes(path)) {
    throw new Error(`The server has an adapter for ${path}: close it, or choose another path.`);
  }
  const { egress } = monitor;
  const hub: Hub = { egress, connections: 0, onEmpty() {} };
  let closing: Promise<void> | undefined;

  const serverOptions = {
    noServer: true,
    WebSocket: Connection,
    perMessageDeflate: false,
    clientTracking: false,
    maxPayload: MAX_MESSAGE_BYTES,
    maxFragments: MAX_FRAGMENTS,
    allowSynchronousEvents: false, // one message of a connection a turn, so that others have theirs
    closeTimeout: CLOSE_TIMEOUT_MS,
    handleProtocols: (offered: Set<string>) => offered.has(SUBPROTOCOL) && SUBPROTOCOL,
  };
  const handshake = new WebSocketServer(serverOptions);

  function handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!allowedOrigin(request, origins)) return refuseUpgrade(socket, "403 Forbidden");
    if (closing) return refuseUpgrade(socket, "503 Service Unavailable");
    const url = parseUrl(request);
    if (!url) return refuseUpgrade(socket, "400 Bad Request");
    // The handshake's socket is a net.Socket: a TLS one is, too.
    handshake.handleUpgrade(request, socket, head, (connection) =>
      welcome(connection, socket as Socket, request, url),
    );
  }

  function welcome(
    connection: Connection,
    socket: Socket,
    request: IncomingMessage,
    url: URL,
  ): void {
    const query = Object.fromEntries(url.searchParams);
    const { headers, fault = faultOf(query) } = readOffer(request.headers);
    connection.begin(hub, socket, { headers, query });
    if (fault) return connection.refuse(fault);
    const { jobId, after, mode } = query;
    if (jobId === undefined) return connection.requests.rest();
    void connection.open(
      {
        jobId,
        action: "watch",
        transport: "ws",
        headers,
        query,
        // Asked for only when somebody wants it: Node keeps what it looked up on the socket.
        get remoteAddress() {
          return socket.remoteAddress;
        },
      },
      parseCursor(after) ?? null,
      parseMode(mode) ?? "full",
    );
  }

  function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!server) return;
    const asked = parseUrl(request)?.pathname;
    // A socket that everybody leaves alone hangs until its client gives up: the first adapter answers.
    const isFirst = server.listeners("upgrade")[0] === onUpgrade;
    const isNobodys = isFirst && onlyAdapters(server) && !upgradePaths(server).includes(asked);
    if (asked !== path && !isNobodys) return;
    if (offersWebSocket(request)) {
      if (asked === path) handleUpgrade(request, socket, head);
      else refuseUpgrade(socket, "404 Not Found");
    } else if (!giveBack(server, request, socket, head)) refuseUpgrade(socket, "400 Bad Request");
  }

  function close(): Promise<void> {
    if (closing) return closing;
    server?.off("upgrade", onUpgrade);
    // Before anybody is told: a listener on `leave` may close, too. `ws` ends those who do not answer
    // after CLOSE_TIMEOUT_MS.
    closing = new Promise((resolve) => {
      if (hub.connections === 0) resolve();
      else hub.onEmpty = resolve;
    });
    const restarting = new WorkflowMonitorError(
      "draining",
      "This server is going away: come back with your cursor.",
    );
    for (const connection of egress.heartbeats.connections())
      if (connection instanceof Connection && connection.isOf(hub)) connection.goAway(restarting);
    return closing;
  }

  if (server) {
    server.on("upgrade", Object.assign(onUpgrade, { [PATH]: path }));
    declineOtherOffers(server, () => onlyAdapters(server));
  }
  return { handleUpgrade, close };
}

/** The paths of a server's upgrade handlers, in their order; undefined for one that is no adapter. */
function upgradePaths(server: Server): unknown[] {
  return server.listeners("upgrade").map((listener) => (listener as { [PATH]?: unknown })[PATH]);
}

/** Nobody else listens to `upgrade`. */
const onlyAdapters = (server: Server): boolean => !upgradePaths(server).includes(undefined);

/** Why a connection cannot be served, once it can be told: browsers cannot read a refused upgrade. */
function faultOf({
  jobId,
  mode,
}: Record<string, string | undefined>): WorkflowMonitorError | undefined {
  if (jobId === "") {
    return new WorkflowMonitorError("bad_request", "Say which job: connect with ?jobId=<id>.");
  }
  if (!parseMode(mode)) {
    const details = jobId === undefined ? {} : { jobId };
    return new WorkflowMonitorError("bad_request", "mode must be full or delta.", details);
  }
  return undefined;
}

/** CORS does not protect WebSockets: any page may open one, with the user's cookies. */
function allowedOrigin({ headers }: IncomingMessage, origins?: readonly string[]): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return true;
  if (origins) return origins.includes(origin);
  try {
    return new URL(origin).host === host;
  } catch {
    return false; // "null" of a sandboxed page
  }
}

function parseUrl({ url = "/" }: IncomingMessage): URL | undefined {
  try {
    return new URL(url, "http://host");
  } catch {
    return undefined;
  }
}

function refuseUpgrade(socket: Duplex, status: string): void {
  socket.on("error", () => {});
  socket.once("finish", () => socket.destroy()); // a peer that does not close holds up nobody
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
