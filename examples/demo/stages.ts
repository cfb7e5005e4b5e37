// What the stages of an inventory do: plain async code that tells how far it is, whoever runs it.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { createGzip } from "node:zlib";
import type { StageContext } from "@org/workflow-monitor";

const MiB = 2 ** 20;
const FILES_AT_ONCE = 16;
const SAMPLE_BYTES = 16 * MiB;

export interface File {
  path: string;
  size: number;
}

export interface Found {
  files: File[];
  /** Files and folders that vanished meanwhile, or may not be read. */
  unreadable: number;
}

export interface HashedFile extends File {
  sha256: string;
}

/** Files with the same content. */
export interface Copies {
  size: number;
  paths: string[];
}

/** Nobody knows how many files there will be: this stage tells how many there are, and no percentage. */
export async function scan(folder: string, { message, signal }: StageContext): Promise<Found> {
  const files: File[] = [];
  const folders = [folder];
  let unreadable = 0;
  for (const parent of folders) {
    signal.throwIfAborted();
    const entries = await readdir(parent, { withFileTypes: true }).catch((error: unknown) => {
      if (parent === folder) throw error;
      unreadable += 1;
      return [];
    });
    const before = files.length;
    await Promise.all(
      entries.map(async (entry) => {
        const path = join(parent, entry.name);
        if (entry.isDirectory()) folders.push(path);
        if (!entry.isFile()) return; // links are not followed
        const stats = await lstat(path).catch(() => undefined);
        if (stats) files.push({ path, size: stats.size });
        else unreadable += 1;
      }),
    );
    if (thousands(files.length) > thousands(before)) message(count(files.length, "file"));
  }
  const [all, places] = [count(files.length, "file"), count(folders.length, "folder")];
  message(`${all} in ${places}${except(unreadable)}`);
  return { files, unreadable };
}

/** SHA-256 of every file that can be read. */
export async function hash(
  files: File[],
  { progress, message, signal }: StageContext,
): Promise<HashedFile[]> {
  const hashed: HashedFile[] = [];
  const total = sizeOf(files);
  let current = 0;
  await inParallel(files, FILES_AT_ONCE, async (file) => {
    const sha256 = createHash("sha256");
    try {
      for await (const chunk of read(file)) {
        signal.throwIfAborted();
        sha256.update(chunk);
        current += chunk.length;
        progress({ current, total });
      }
    } catch {
      signal.throwIfAborted();
      return; // one that cannot be read is no reason to stop
    }
    hashed.push({ ...file, sha256: sha256.digest("hex") });
  });
  message(`${amount(current)}${except(files.length - hashed.length)}`);
  return hashed;
}

/** Largest waste first. */
export async function findDuplicates(
  files: HashedFile[],
  { progress, message, signal }: StageContext,
): Promise<Copies[]> {
  const groups = new Map<string, Copies>();
  for (const [index, { path, size, sha256 }] of files.entries()) {
    if (index % 1_000 === 0) {
      progress({ current: index, total: files.length });
      await nextTurn(undefined, { signal }); // others want to work, too
    }
    const key = `${size} ${sha256}`;
    const group = groups.get(key);
    if (group) group.paths.push(path);
    else groups.set(key, { size, paths: [path] });
  }
  const duplicates = [...groups.values()]
    .filter(({ size, paths }) => size > 0 && paths.length > 1)
    .sort((a, b) => wasted(b) - wasted(a));
  const copies = duplicates.reduce((sum, { paths }) => sum + paths.length - 1, 0);
  message(
    `${count(copies, "needless copy", "needless copies")}: ${amount(sum(duplicates.map(wasted)))}`,
  );
  return duplicates;
}

/** gzip over a sample, as one stream, as a tarball would be. */
export async function compress(sample: File[], { progress, message, signal }: StageContext) {
  const total = sizeOf(sample);
  let unreadable = 0;
  let before = 0;
  let after = 0;
  await pipeline(
    async function* () {
      for (const file of sample) {
        try {
          for await (const chunk of read(file)) {
            before += chunk.length;
            progress({ current: before, total });
            yield chunk;
          }
        } catch {
          unreadable += 1; // it was there when it was hashed
        }
      }
    },
    createGzip(),
    async (zipped) => {
      for await (const chunk of zipped) after += (chunk as Buffer).length;
    },
    { signal },
  );
  const ratio = before > 0 ? after / before : 1;
  message(
    `${amount(before)} became ${amount(after)}: ${Math.round(ratio * 100)} %${except(unreadable)}`,
  );
  return { files: sample.length - unreadable, before, after };
}

/** Up to 16 MiB of files; `order` is a text of each, by which they are taken: that of hashes is as good as chance. */
export function pickSample<F extends File>(files: F[], order: (file: F) => string): F[] {
  let bytes = 0;
  return files
    .map((file) => ({ file, by: order(file) }))
    .sort((a, b) => (a.by < b.by ? -1 : 1))
    .map(({ file }) => file)
    .filter(({ size }) => {
      const fits = bytes + size <= SAMPLE_BYTES;
      if (fits) bytes += size;
      return fits;
    });
}

export interface Findings {
  found: Found;
  hashed: HashedFile[];
  duplicates: Copies[];
  compression: { files: number; before: number; after: number };
}

export async function writeReport(
  folder: string,
  { found, hashed, duplicates, compression }: Findings,
  { message, signal }: StageContext,
): Promise<string> {
  const short = (path: string) => relative(folder, path);
  const text = JSON.stringify(
    {
      folder,
      files: hashed.length,
      bytes: sizeOf(hashed),
      unreadable: found.unreadable + found.files.length - hashed.length,
      compression,
      duplicates: duplicates.map(({ size, paths }) => ({ size, paths: paths.map(short) })),
      inventory: hashed.map(({ path, ...rest }) => ({ path: short(path), ...rest })),
    },
    null,
    1,
  );
  const path = join(await mkdtemp(join(tmpdir(), "inventory-")), "report.json");
  await writeFile(path, text, { signal });
  message(path);
  return path;
}

/** A file's bytes, in pieces of up to 1 MiB. */
function read({ path, size }: File): AsyncIterable<Buffer> {
  return createReadStream(path, { highWaterMark: Math.min(Math.max(size, 1), MiB) });
}

/** Does `work` for all items, for at most `limit` of them at a time. */
async function inParallel<T>(items: T[], limit: number, work: (item: T) => Promise<void>) {
  const rest = items.values(); // shared: whoever is free takes the next
  const worker = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
const sizeOf = (files: File[]) => sum(files.map(({ size }) => size));
const wasted = ({ size, paths }: Copies) => size * (paths.length - 1);
const thousands = (number: number) => Math.floor(number / 1_000);
const count = (number: number, one: string, many = `${one}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const amount = (bytes: number) =>
  bytes < MiB ? `${(bytes / 1_024).toFixed(1)} KiB` : `${(bytes / MiB).toFixed(1)} MiB`;
const except = (unreadable: number) => (unreadable > 0 ? `, ${unreadable} unreadable` : "");
