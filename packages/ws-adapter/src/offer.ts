import type { IncomingHttpHeaders } from "node:http";
import { SUBPROTOCOL, TOKEN_PROTOCOL, WorkflowMonitorError } from "@org/workflow-monitor";

/** What a viewer's handshake comes to, once its subprotocols are read. */
export interface Offer {
  /** As `authorize` sees them: a token is `authorization`, and no subprotocol any more. SPEC D11. */
  headers: IncomingHttpHeaders;
  /** Why the connection cannot be served. */
  fault: WorkflowMonitorError | undefined;
}

const MAX_TOKEN_BYTES = 4 * 1024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
/** A byte order mark stays: a token is what it is. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Tells versions and tokens apart. The headers of a request without a token are what they were. */
export function readOffer(headers: IncomingHttpHeaders): Offer {
  const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((p) => p.trim());
  const isToken = (protocol: string) => protocol.startsWith(TOKEN_PROTOCOL);
  const others = offered.filter((protocol) => !isToken(protocol));
  const [token, second] = offered.filter(isToken);
  const version = faultOfVersions(others);
  if (token === undefined) return { headers, fault: version };

  const { "sec-websocket-protocol": _, ...kept } = headers;
  if (others.length > 0) kept["sec-websocket-protocol"] = others.join(", ");
  if (version) return { headers: kept, fault: version };
  if (second !== undefined) return { headers: kept, fault: bad("Offer one token, not several.") };
  const read = readToken(token.slice(TOKEN_PROTOCOL.length));
  if (typeof read !== "string") return { headers: kept, fault: read };
  kept.authorization ??= `Bearer ${read}`;
  return { headers: kept, fault: undefined };
}

function faultOfVersions(offered: string[]): WorkflowMonitorError | undefined {
  if (offered.includes(SUBPROTOCOL) || !offered.some((p) => p.startsWith("workflow-monitor."))) {
    return undefined;
  }
  return new WorkflowMonitorError("unsupported_version", `This server speaks ${SUBPROTOCOL}.`);
}

/** The token, or why it is none. What is said of it does not show it. */
function readToken(encoded: string): string | WorkflowMonitorError {
  const bytes = Buffer.from(encoded, "base64url");
  if (encoded === "") return bad("The token is empty.");
  // Node reads other texts for the same bytes, too, and skips what it does not know.
  if (bytes.toString("base64url") !== encoded) {
    return bad("The token is not base64url: its UTF-8 in RFC 4648 §5, without padding.");
  }
  if (bytes.length > MAX_TOKEN_BYTES) return bad("The token is longer than 4 KiB.");
  let token: string;
  try {
    token = utf8.decode(bytes);
  } catch {
    return bad("The token is not UTF-8.");
  }
  return CONTROL.test(token) ? bad("The token has control characters.") : token;
}

const bad = (message: string) => new WorkflowMonitorError("bad_request", message);
