import { expect } from "vitest";
import { type ServerOptions, startServer, type TestServer } from "./server.js";

/** The job of `startWatched`. */
export const JOB = "job";

export interface Watched {
  server: TestServer;
  /** The process lives, and the other viewer gets what comes next. */
  undisturbed(): Promise<void>;
}

/** A server with one job, and a healthy viewer of it that has to go on undisturbed. */
export async function startWatched(options: ServerOptions = {}): Promise<Watched> {
  const server = await startServer(options);
  await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
  const bystander = await server.watch(JOB);
  await bystander.expect("snapshot");
  let count = 0;
  return {
    server,
    async undisturbed() {
      count += 1;
      const message = `undisturbed ${count}`;
      server.engine.emit("job", { jobId: JOB, message });
      const update = await bystander.expect("update");
      expect(update.job?.message).toBe(message);
      expect((await server.poll(JOB)).json()).toEqual(update.job);
    },
  };
}
