/**
 * Whether an If-None-Match header names this entity tag: RFC 9110 §13.1.2, weak comparison. The tag
 * comes with its quotes.
 */
export function noneMatch(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header === etag || header.trim() === "*") return true;
  for (const [, candidate] of header.matchAll(/(?:W\/)?("[^"]*")/g))
    if (candidate === etag) return true;
  return false;
}

/** The text of an If-None-Match header's tag, without a version behind a dash; undefined when it has not just one. */
export const tagged = (header: string | undefined): string | undefined =>
  header && /^(?:W\/)?"([^",-]*)(?:-\w*)?"$/.exec(header.trim())?.[1];
