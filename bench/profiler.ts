import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";

let session: Session | undefined;

/** Starts a CPU profile of this process, with null; ends it, with the file that it goes to. */
export async function profile(file: string | null): Promise<void> {
  if (!session) {
    session = new Session();
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.setSamplingInterval", { interval: 200 });
  }
  if (file === null) await session.post("Profiler.start");
  else {
    const { profile } = await session.post("Profiler.stop");
    writeFileSync(file, JSON.stringify(profile));
  }
}
