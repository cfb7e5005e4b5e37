import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { openPlace, sealPlace } from "../../packages/core/src/page-cursor.js";

const secret = randomBytes(32);
const createdAt = "2026-01-01T00:00:00.000Z";

test("[A1] [D14] a cursor opens to the place that was sealed, for who has the secret", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme", maxLength: 40 }),
      fc.date({ noInvalidDate: true }),
      (jobId, date) => {
        const place = { createdAt: date.toISOString(), jobId };
        const cursor = sealPlace(place, secret);
        expect(cursor).toMatch(/^[\w-]+$/);
        expect(openPlace(cursor, secret)).toEqual(place);
        expect(openPlace(cursor, randomBytes(32))).toBeUndefined();
      },
    ),
    { seed: 20_260_101, numRuns: 300 },
  );
});

test("[A1] [D14] cursors of all job ids that there may be are of one length, which fits into a URL", () => {
  const ids = ["a", "é".repeat(16), '"'.repeat(33), "\\".repeat(33), "x".repeat(100)];
  const lengths = ids.map((jobId) => sealPlace({ createdAt, jobId }, secret).length);
  expect(new Set(lengths).size).toBe(1);
  expect(lengths[0]).toBeLessThan(512);
});

test("[A1] [D14] the same place has the same cursor, two places share nothing but the version", () => {
  const one = sealPlace({ createdAt, jobId: "a" }, secret);
  expect(sealPlace({ createdAt, jobId: "a" }, secret)).toBe(one);
  const other = Buffer.from(sealPlace({ createdAt, jobId: "b" }, secret), "base64url");
  const bytes = Buffer.from(one, "base64url");
  expect(other[0]).toBe(bytes[0]);
  // The nonce, the tag, and the first block of what is sealed.
  for (const [begin, end] of [
    [1, 13],
    [13, 29],
    [29, 45],
  ] as const)
    expect(other.subarray(begin, end)).not.toEqual(bytes.subarray(begin, end));
});

test("[A1] [D14] no byte of a cursor may be changed, taken or added", () => {
  const bytes = Buffer.from(sealPlace({ createdAt, jobId: "a" }, secret), "base64url");
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    expect(openPlace(changed.toString("base64url"), secret)).toBeUndefined();
    expect(openPlace(bytes.subarray(0, at).toString("base64url"), secret)).toBeUndefined();
  }
  const longer = Buffer.concat([bytes, Buffer.of(0)]);
  expect(openPlace(longer.toString("base64url"), secret)).toBeUndefined();
  expect(openPlace(`${bytes.toString("base64url")}=`, secret)).toBeUndefined();
});
