import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import type { ListPlace } from "./store.js";

/**
 * The cursor of a page of jobs: a place in the list, sealed. It may be the place of a job that the
 * viewer must not know of, so it is encrypted (AES-256-GCM) and padded to one length.
 *
 * The nonce is a keyed hash of the place: the same place gives the same cursor, so that a page that is
 * read again has the same `next`, and a nonce never serves two places.
 */

/** The first byte of a cursor. Another format takes another number. */
const VERSION = Buffer.of(1);
const NONCE = { start: 1, end: 13 };
const TAG_END = 29;
/** More than the time and the longest job id (100 bytes) as JSON, with its escapes. */
const PADDED_LENGTH = 160;

/** Where the next page begins, as text of [A-Za-z0-9_-]. `secret`: of the store, 32 bytes or more. */
export function sealPlace({ createdAt, jobId }: ListPlace, secret: Uint8Array): string {
  const keys = keysOf(secret);
  const json = Buffer.from(JSON.stringify([createdAt, jobId]));
  const padding = Buffer.alloc(Math.max(0, PADDED_LENGTH - json.length), " ");
  const plain = Buffer.concat([json, padding]);
  const nonce = createHmac("sha256", keys.nonce).update(plain).digest().subarray(0, 12);
  const cipher = createCipheriv("aes-256-gcm", keys.cipher, nonce).setAAD(VERSION);
  const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([VERSION, nonce, cipher.getAuthTag(), sealed]).toString("base64url");
}

/** The place that a cursor stands for; undefined for a text that was not sealed with this secret. */
export function openPlace(cursor: string, secret: Uint8Array): ListPlace | undefined {
  if (!/^[\w-]+$/.test(cursor)) return undefined;
  const bytes = Buffer.from(cursor, "base64url");
  if (bytes.length <= TAG_END || bytes[0] !== VERSION[0]) return undefined;
  const nonce = bytes.subarray(NONCE.start, NONCE.end);
  const decipher = createDecipheriv("aes-256-gcm", keysOf(secret).cipher, nonce, {
    authTagLength: TAG_END - NONCE.end,
  });
  decipher.setAAD(VERSION).setAuthTag(bytes.subarray(NONCE.end, TAG_END));
  try {
    const plain = Buffer.concat([decipher.update(bytes.subarray(TAG_END)), decipher.final()]);
    const [createdAt, jobId] = JSON.parse(plain.toString()) as [string, string];
    return { createdAt, jobId };
  } catch {
    return undefined;
  }
}

function keysOf(secret: Uint8Array): { cipher: Buffer; nonce: Buffer } {
  const bytes = Buffer.from(hkdfSync("sha256", secret, "", "workflow-monitor page cursor", 64));
  return { cipher: bytes.subarray(0, 32), nonce: bytes.subarray(32) };
}
