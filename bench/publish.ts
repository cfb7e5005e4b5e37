import { start } from "./child.js";
import type { PublisherCalls } from "./messages.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

/** Published together, and then awaited; as much as one turn of the event loop takes. */
export const IN_FLIGHT = 64;

/** Microseconds of CPU: for one event, and for one `JSON.stringify` of the job. */
export interface PublishCosts {
  message: Record<"together" | "alone", Series>;
  progress: Record<"together" | "alone", Series>;
  stringify: Series;
  /** The size of the job. */
  bytes: number;
}

/** What an event costs the process that publishes it, when nobody watches. */
export async function measurePublish(
  settings: Settings,
  log: (line: string) => void,
): Promise<PublishCosts> {
  const costs: PublishCosts = {
    message: { together: [], alone: [] },
    progress: { together: [], alone: [] },
    stringify: [],
    bytes: 0,
  };
  const { rounds, events } = settings.publish;
  log("publish");
  const publisher = start<PublisherCalls>(settings.file("publisher"));
  for (let round = -1; round < rounds; round++) {
    for (const kind of ["message", "progress"] as const) {
      for (const way of ["together", "alone"] as const) {
        const file = settings.profile(`publish-${kind}-${way}`);
        if (file) await publisher.call("profile", null);
        const inFlight = way === "together" ? IN_FLIGHT : 1;
        const cost = await publisher.call("publish", kind, events, inFlight);
        if (file) await publisher.call("profile", file);
        if (round >= 0) costs[kind][way].push(cost); // the first round is to warm up
      }
    }
    const { cost, bytes } = await publisher.call("stringify", events);
    if (round >= 0) costs.stringify.push(cost);
    costs.bytes = bytes;
  }
  publisher.stop();
  return costs;
}
