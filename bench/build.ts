import { join } from "node:path";
import { build } from "tsup";
import { base } from "../tsup.base.js";
import { here } from "./settings.js";

/** Children run what users would: the packages as their build makes them, not as tsx does. */
export async function buildChildren(
  names: readonly string[],
  outDir: string,
  folder = here,
): Promise<void> {
  await build({
    ...base,
    config: false,
    entry: Object.fromEntries(names.map((name) => [name, join(folder, `${name}.ts`)])),
    outDir,
    format: ["esm"],
    tsconfig: join(here, "..", "tsconfig.json"),
    dts: false,
    skipNodeModulesBundle: true,
    noExternal: [/^@org\//],
    silent: true,
  });
}
