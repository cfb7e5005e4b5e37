import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Dialect, SubjectStats, Target } from "../messages.js";
import type { UpdateFrame } from "../payload.js";

/** Something that serves updates to viewers. */
export interface Subject {
  listen(): Promise<Target>;
  /** Sends the n-th update to all of them; what it returns is awaited. */
  update(n: number): unknown;
  stats?(): SubjectStats;
}

/** `redis`: its address, for those who need one. */
export type CreateSubject = (frame: UpdateFrame, redis?: string) => Subject | Promise<Subject>;

/** For subjects on an `http.Server`: on a free port of this machine. */
export function listen(server: Server, path: string, dialect: Dialect): Promise<Target> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", 4096, () => {
      const { address, port } = server.address() as AddressInfo;
      resolve({ to: { host: address, port }, path, dialect });
    });
  });
}
