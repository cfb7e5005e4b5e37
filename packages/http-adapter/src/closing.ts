import type { ServerResponse } from "node:http";
import { type Http2ServerResponse, type Http2Session, constants as http2 } from "node:http2";
import type { Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import type { FastifyInstance } from "fastify";
import type { Connections } from "./connections.js";

/**
 * How long answers may take to leave after the drain, and how long a connection may stand still. Real time,
 * as Node's own timeouts: it is the network that is waited for.
 */
const GRACE_MS = 1_000;

/** Node's own fields of a connection that it serves: `parser` is null after an upgrade. */
type ServedSocket = Socket & { parser?: unknown; _httpMessage?: ServerResponse | null };

/**
 * Lets `app.close()` end. Node waits for every connection that is not idle, also for one that never will
 * be. A request of the host's that has arrived completely is the host's to answer, however long that takes.
 * These connections are ended: one that has sent no whole request head, at once; one that stops in the
 * middle of a head or a body, or does not read its answer, for a second; one with an answer of these routes
 * that has not left a second after the drain. Upgraded sockets belong to their upgrade handler. SPEC D15.
 */
export function closeConnections(
  app: FastifyInstance,
  connections: Connections,
  drain: () => Promise<void>,
): void {
  const sockets = new Sockets(app.server, connections);
  const sessions = new Sessions(app.server);
  const timers: NodeJS.Timeout[] = [];
  app.addHook("preClose", async () => {
    const look = () => {
      sockets.endSilent();
      sockets.endStalled();
      sessions.endStalled();
    };
    connections.close();
    look();
    timers.push(setInterval(look, GRACE_MS));
    await drain();
    timers.push(setInterval(() => connections.cut(), GRACE_MS));
    sockets.endSilent();
    sessions.close();
  });
  app.addHook("onClose", async () => {
    for (const timer of timers) clearInterval(timer);
  });
}

/** The connections of HTTP/1.1, with how many bytes had come and gone at the last look. */
class Sockets {
  readonly #connections: Connections;
  readonly #moved = new Map<ServedSocket, number>();
  /** No request came on them yet: browsers connect in advance. */
  readonly #silent = new Set<ServedSocket>();
  /** TLS handshakes that are not over, by their peer. */
  readonly #shaking = new Map<string, Socket>();

  constructor(server: FastifyInstance["server"], connections: Connections) {
    this.#connections = connections;
    if (server instanceof TlsServer) {
      server.on("connection", (socket) => this.#shake(socket));
      server.on("secureConnection", (socket) => {
        this.#shaking.delete(peer(socket));
        this.#add(socket);
      });
    } else server.on("connection", (socket) => this.#add(socket));
    server.on("request", ({ socket }) => this.#silent.delete(socket));
  }

  /** Of a TLS server it is the decrypted socket that is served. */
  #shake(socket: Socket): void {
    if (socket.remotePort === undefined) return;
    const key = peer(socket);
    this.#shaking.set(key, socket);
    socket.once("close", () => {
      if (this.#shaking.get(key) === socket) this.#shaking.delete(key);
    });
  }

  #add(socket: ServedSocket): void {
    if (this.#moved.has(socket)) return;
    this.#moved.set(socket, -1);
    this.#silent.add(socket);
    socket.once("close", () => {
      this.#moved.delete(socket);
      this.#silent.delete(socket);
    });
  }

  endSilent(): void {
    for (const socket of this.#silent) if (socket.parser) socket.destroy();
    for (const socket of this.#shaking.values()) socket.destroy();
  }

  endStalled(): void {
    for (const [socket, before] of this.#moved) {
      const { bytesRead, bytesWritten, writableLength, parser, _httpMessage: answer } = socket;
      const moved = bytesRead + bytesWritten - writableLength;
      this.#moved.set(socket, moved);
      // Undefined: no request came yet, or a Node that has no such field.
      const isStalled = moved === before && answer !== undefined && !this.#isInProgress(answer);
      if (parser && isStalled) socket.destroy();
    }
  }

  /** Somebody here is at work for it. What has been answered has only to leave. */
  #isInProgress(answer: ServerResponse | null): boolean {
    if (!answer) return false;
    return this.#connections.isPending(answer) || (answer.req.complete && !answer.writableEnded);
  }
}

const peer = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

interface OpenSession {
  session: Http2Session;
  /** Its answers that have not left. */
  answers: Set<Http2ServerResponse>;
  /** How many bytes had come at the last look. */
  seen: number;
}

/** The sessions of HTTP/2, by their socket. */
class Sessions {
  readonly #open = new Map<Socket, OpenSession>();
  readonly #answers = new WeakMap<Http2Session, OpenSession["answers"]>();
  /** A server makes the session of a socket in the turn in which the socket comes. */
  #newest: Http2Session | undefined;
  #closing = false;

  constructor(server: FastifyInstance["server"]) {
    server.on("session", (session: Http2Session) => {
      this.#newest = session;
    });
    server.on(server instanceof TlsServer ? "secureConnection" : "connection", (socket: Socket) => {
      if (this.#newest) this.#add(socket, this.#newest);
      this.#newest = undefined;
    });
    server.on("request", (_request, response: ServerResponse | Http2ServerResponse) => {
      if ("stream" in response) this.#answering(response);
    });
  }

  /** No new streams: what is in progress goes on. */
  close(): void {
    this.#closing = true;
    for (const { session } of this.#open.values()) session.close();
  }

  endStalled(): void {
    for (const [socket, open] of this.#open) {
      const isStalled = socket.bytesRead === open.seen;
      open.seen = socket.bytesRead;
      // A peer that does not close would keep a session that has ended.
      if (this.#closing && open.answers.size === 0) socket.destroy();
      for (const { stream } of isStalled ? open.answers : [])
        if (stream.state.remoteClose === 0) stream.close(http2.NGHTTP2_CANCEL);
    }
  }

  #add(socket: Socket, session: Http2Session): void {
    const answers = new Set<Http2ServerResponse>();
    this.#answers.set(session, answers);
    this.#open.set(socket, { session, answers, seen: -1 });
    socket.once("close", () => this.#open.delete(socket));
    if (this.#closing) session.close();
  }

  #answering(response: Http2ServerResponse): void {
    const answers = response.stream.session && this.#answers.get(response.stream.session);
    if (!answers) return;
    answers.add(response);
    response.once("close", () => answers.delete(response));
  }
}
