import { readlink, realpath } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";

/**
 * Where a path leads, if that is inside `root` (a real path); undefined if it is not, whatever
 * symbolic links it goes through. What does not exist is judged by where it would be.
 */
export async function resolveInside(root: string, path: string): Promise<string | undefined> {
  try {
    const real = await follow(resolve(root, path));
    return isInside(root, real) ? real : undefined;
  } catch {
    return undefined; // a loop of links, or a folder that may not be read: nobody knows
  }
}

async function follow(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
  }
  const target = await readlink(path).catch(() => undefined);
  if (target !== undefined) return follow(resolve(dirname(path), target)); // a link to nothing
  return join(await follow(dirname(path)), basename(path));
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
