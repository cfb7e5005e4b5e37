import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { UpdateFrame } from "../payload.js";

/** Something that serves updates to viewers. */
export interface Subject {
  server: Server;
  /** Sends the n-th update to all of them. */
  update(n: number): void;
}

export type CreateSubject = (frame: UpdateFrame) => Subject | Promise<Subject>;

export function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", 4096, () => resolve((server.address() as AddressInfo).port));
  });
}
