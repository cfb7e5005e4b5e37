/**
 * Whether an If-None-Match header names this entity tag: RFC 9110 §13.1.2, weak comparison. The tag
 * comes without its quotes.
 */
export function noneMatch(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header === `"${tag}"` || header.trim() === "*") return true;
  for (const [, candidate] of header.matchAll(/(?:W\/)?"([^"]*)"/g))
    if (candidate === tag) return true;
  return false;
}
