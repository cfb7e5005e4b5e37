import { createMonitorClient, type MonitorClient } from "@org/workflow-monitor-client";

interface Shared {
  client: MonitorClient;
  users: number;
}

/** On the page, not in this module: two copies of the package still share their connections. */
const KEY = Symbol.for("@org/workflow-monitor-elements/clients/1");
/** An element that is moved, or replaced by another, is gone only for a moment. */
const LINGER_MS = 1_000;

function clients(): Map<string, Shared> {
  const page = globalThis as { [KEY]?: Map<string, Shared> };
  page[KEY] ??= new Map();
  return page[KEY];
}

/**
 * The client that all elements with the same url share, and how to give it back: it is closed when
 * the last of them has. Throws a TypeError when the url is none.
 */
export function shareClient(url: string): { client: MonitorClient; release: () => void } {
  const all = clients();
  const { href } = new URL(url, document.baseURI);
  const shared = all.get(href) ?? { client: createMonitorClient({ url: href }), users: 0 };
  all.set(href, shared);
  shared.users += 1;
  let released = false;
  return {
    client: shared.client,
    release() {
      if (released) return;
      released = true;
      shared.users -= 1;
      setTimeout(() => {
        if (shared.users > 0 || all.get(href) !== shared) return;
        all.delete(href);
        shared.client.close();
      }, LINGER_MS);
    },
  };
}
