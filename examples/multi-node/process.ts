// What all processes of the cluster have in common.
import type { JobStore } from "@org/workflow-monitor";

const url = new URL(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");

/** As `redisStore` takes it. */
export const redisUrl = url.href;

/** As BullMQ takes it. */
export const redis = {
  host: url.hostname,
  port: Number(url.port || 6_379),
  ...(url.username && { username: decodeURIComponent(url.username) }),
  ...(url.password && { password: decodeURIComponent(url.password) }),
  ...(url.pathname.length > 1 && { db: Number(url.pathname.slice(1)) }),
  ...(url.protocol === "rediss:" && { tls: {} }),
};

/** Tells the launcher, if there is one. From now on the process ends with it, and Ctrl-C is its business. */
export function tellReady(port?: number): void {
  if (!process.send) return;
  process.on("SIGINT", () => {});
  process.once("disconnect", () => process.exit());
  process.send({ port });
}

/** Prints an error unless it is the same as before: while Redis is away, there are many. */
export function reportOnce(): (error: Error) => void {
  let last = "";
  return ({ message }) => {
    if (message !== last) console.log(message);
    last = message;
  };
}

/** Prints when Redis goes away and comes back. */
export function reportConnection(store: JobStore): void {
  let was = false; // before it was there for the first time
  store.connection?.((there) => {
    if (there || was) console.log(there ? "Redis is there" : "Redis is away");
    was = there;
  });
}

/** What is to be done before the process goes. */
export function onStop(close: () => Promise<unknown>): void {
  process.once("SIGTERM", () => void close().finally(() => process.exit()));
}
