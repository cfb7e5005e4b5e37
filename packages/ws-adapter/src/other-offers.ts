import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";

/**
 * Node hands every request that offers an upgrade to the `upgrade` listeners as soon as there is one. An
 * offer of something else than a WebSocket (`h2c`, by Java's HttpClient and `curl --http2`) may be ignored
 * (RFC 9110 §7.8), and the host wants to answer the request. There are two ways to that: newer versions
 * of Node ask before they hand over a request, and on older ones the request is given back to the server.
 */

/** Header fields of an offer, which a request that is given back has no more. */
const OFFER = new Set(["upgrade", "http2-settings"]);
const ASKS_HERE = Symbol.for("@org/workflow-monitor-ws.asks");

type AskingServer = Server & { shouldUpgradeCallback?: (request: IncomingMessage) => boolean };

const tokensOf = (value = ""): string[] => value.split(",").map((token) => token.trim());

export const offersWebSocket = ({ headers }: IncomingMessage): boolean =>
  tokensOf(headers.upgrade).some((token) => token.toLowerCase() === "websocket");

/**
 * Where Node asks whether a request is an upgrade (24.9, and late 22): other offers are none while `isAlone`
 * says that nobody else listens to `upgrade`. Stays on the server; another copy of this module finds it.
 */
export function declineOtherOffers(server: AskingServer, isAlone: () => boolean): void {
  const asked = server.shouldUpgradeCallback;
  if (!asked || ASKS_HERE in asked) return;
  const decide = (request: IncomingMessage) =>
    (offersWebSocket(request) || !isAlone()) && asked.call(server, request);
  server.shouldUpgradeCallback = Object.assign(decide, { [ASKS_HERE]: true });
}

/**
 * Gives a request back to its server, without the offer, as if it came now on a new connection: the body
 * and the requests that follow are still to be read. Returns false when the socket is not one that can be
 * given back.
 */
export function giveBack(
  server: Server,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): boolean {
  if (!(socket instanceof Socket)) return false;
  const onError = () => {}; // nobody listens until the server has it again
  socket.on("error", onError);
  const give = () => {
    if (socket.destroyed) return;
    // An answer to a pipelined request before this one has the socket.
    const { _httpMessage: answer } = socket as Socket & { _httpMessage?: ServerResponse | null };
    if (answer) return void answer.once("close", give);
    socket.off("error", onError);
    socket.setTimeout(server.timeout);
    socket.unshift(Buffer.concat([headOf(request), head]));
    server.emit(socket instanceof TLSSocket ? "secureConnection" : "connection", socket);
  };
  give();
  return true;
}

/** The head of a request as it came, but for the offer. */
function headOf({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  let text = `${method} ${url} HTTP/${httpVersion}\r\n`;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = "", value = ""] = rawHeaders.slice(at, at + 2);
    if (OFFER.has(name.toLowerCase())) continue;
    const kept =
      name.toLowerCase() === "connection"
        ? tokensOf(value).filter((token) => !OFFER.has(token.toLowerCase()))
        : [value];
    if (kept.length > 0) text += `${name}: ${kept.join(", ")}\r\n`;
  }
  return Buffer.from(`${text}\r\n`, "latin1");
}
