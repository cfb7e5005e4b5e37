import { realpath } from "node:fs/promises";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { resolveInside } from "./paths.js";
import { Problem } from "./problem.js";

const root = await realpath(fileURLToPath(new URL("../..", import.meta.url)));

/** The folder of this checkout that a request's body names, and what its inventory is called; throws a Problem. */
export async function readFolder(body: unknown): Promise<{ folder: string; name: string }> {
  const folder = await resolveInside(root, readPath(body));
  if (folder === undefined) {
    throw new Problem(403, "forbidden", "Only folders of this checkout are inventoried.");
  }
  return { folder, name: `Inventory of ${relative(root, folder) || "the checkout"}` };
}

/** The path in `{ "path"?: string }`. */
function readPath(body: unknown): string {
  const isObject = typeof body === "object" && body !== null && !Array.isArray(body);
  const { path = "node_modules", ...others } = (isObject ? body : { body }) as { path?: unknown };
  if (typeof path === "string" && path.length <= 4_096 && !path.includes("\0")) {
    if (Object.keys(others).length === 0) return path;
  }
  throw new Problem(400, "bad_request", 'The body must be JSON, as { "path": "node_modules" }.');
}
