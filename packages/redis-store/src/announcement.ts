import { hash } from "node:crypto";
import type { Announced, JobPatch, Revision } from "@org/workflow-monitor";
import { parseCursor } from "@org/workflow-monitor";
import { patchOf } from "./layout.js";

/**
 * What the append script publishes:
 *
 *     <cursor> <batch id> <proof>
 *     <event> … a line each
 *     <patch> … a line each; of one revision the fields that it sets instead, and their values, in turn
 *
 * The proof is made of the job's secret, which lies in its head: who can publish to the channel, and cannot read
 * the keys, cannot make one. ADR 15.
 */

/** What the proof says of the lines after the first. */
export const digestOf = (body: string): string => hash("sha256", body, "base64");

function proofOf(secret: string, cursor: string, id: string, digest: string): string {
  return hash("sha1", `${secret}${cursor} ${id} ${digest}${secret}`).slice(0, 32);
}

/**
 * Reads an announcement. One without the proof of a writer comes without its revisions, and one that names no
 * cursor is undefined.
 */
export function announced(message: string, secret: string | undefined): Announced | undefined {
  const end = message.indexOf("\n");
  const [at = "", id = "", proof] = (end < 0 ? message : message.slice(0, end)).split(" ");
  const cursor = parseCursor(at);
  if (!cursor) return undefined;
  const body = end < 0 ? "" : message.slice(end + 1);
  const proven = body !== "" && secret && proof === proofOf(secret, at, id, digestOf(body));
  return { cursor, id, revisions: proven ? revisionsOf(body.split("\n")) : [] };
}

/** None for what cannot be read. */
function revisionsOf(lines: readonly string[]): Revision[] {
  try {
    // An odd number: an event, and pairs.
    if (lines.length % 2 === 1)
      return [{ event: lines[0] as string, patch: parsed(patchOf(lines.slice(1))) }];
    const count = lines.length / 2;
    return lines.slice(0, count).map((event, n) => {
      return { event, patch: parsed(lines[count + n] as string) };
    });
  } catch {
    return [];
  }
}

const parsed = (patch: string): JobPatch => JSON.parse(patch) as JobPatch;
