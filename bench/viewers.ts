import { answer } from "./child.js";
import { now } from "./clock.js";
import type { Delivery, Reads, Target, ViewerCalls } from "./messages.js";
import { SseViewer } from "./sse-viewer.js";
import type { Audience, Viewer } from "./viewer.js";
import { WebSocketViewer } from "./ws-viewer.js";

/** A process with all viewers of all subjects in it. */

/** Connections that are being made at a time: fewer than any listen backlog. */
const AT_ONCE = 50;
/** Nothing that is measured takes so long: something got lost. */
const LOST_MS = 60_000;

interface Crowd {
  viewers: Viewer[];
  bytes: number;
  /** What each viewer has to reach; how many have not. */
  target: number;
  missing: number;
  /** What is noted: of each update from the first noted one on, when viewers had it. */
  noted: { first: number; arrivals: number[][] } | undefined;
  onAll(): void;
}
const crowds = new Map<string, Crowd>();

function crowdOf(name: string): Crowd {
  let crowd = crowds.get(name);
  if (!crowd) {
    crowd = { viewers: [], bytes: 0, target: 0, missing: 0, noted: undefined, onAll() {} };
    crowds.set(name, crowd);
  }
  return crowd;
}

answer<ViewerCalls>({
  async connect(name, target, count, reads = "all") {
    const crowd = crowdOf(name);
    await new Promise<void>((resolve) => {
      let ready = 0;
      let begun = 0;
      const more = () => {
        while (begun < count && begun - ready < AT_ONCE) {
          begun += 1;
          crowd.viewers.push(createViewer(audience));
        }
      };
      const audience = audienceOf(crowd, target, reads, () => {
        ready += 1;
        if (ready === count) resolve();
        else more();
      });
      more();
    });
    // Newcomers count from where the others stand.
    for (const viewer of crowd.viewers) viewer.updates = crowd.target;
  },

  async catchUp(target, count, updates, atOnce) {
    const from = now();
    let begun = 0;
    let done = 0;
    await new Promise<void>((resolve) => {
      const more = () => {
        for (; begun < count && begun - done < atOnce; begun++) createViewer(audience);
      };
      const audience: Audience = {
        target,
        reads: "all",
        onReady() {},
        onMessage() {},
        onUpdates(viewer, got) {
          viewer.updates += got;
          if (viewer.updates > updates)
            throw new Error("There were more updates than were missed.");
          if (viewer.updates < updates) return;
          viewer.leave();
          done += 1;
          if (done === count) resolve();
          else more();
        },
      };
      more();
    });
    return now() - from;
  },

  async record(name, updates) {
    const crowd = crowdOf(name);
    const arrivals = Array.from({ length: updates }, (): number[] => []);
    crowd.noted = { first: crowd.target + 1, arrivals };
  },

  async arrivals(name) {
    const crowd = crowdOf(name);
    const { arrivals = [] } = crowd.noted ?? {};
    crowd.noted = undefined;
    return arrivals;
  },

  async expect(name, updates): Promise<Delivery> {
    const crowd = crowdOf(name);
    crowd.target += updates;
    // Some may be there already: nobody tells which of two processes is first.
    crowd.missing = crowd.viewers.filter((viewer) => viewer.updates < crowd.target).length;
    if (crowd.missing > 0) {
      await new Promise<void>((resolve, reject) => {
        const lost = setTimeout(() => {
          reject(new Error(`${crowd.missing} viewers of ${name} have not got ${updates} updates.`));
        }, LOST_MS);
        crowd.onAll = () => {
          clearTimeout(lost);
          resolve();
        };
      });
    }
    if (crowd.viewers.some((viewer) => viewer.updates !== crowd.target)) {
      throw new Error(`${name} sent more than ${updates} updates.`);
    }
    return { delivered: crowd.viewers.length * updates, bytes: crowd.bytes };
  },
});

function createViewer(audience: Audience): Viewer {
  return audience.target.dialect === "sse"
    ? new SseViewer(audience)
    : new WebSocketViewer(audience);
}

function audienceOf(crowd: Crowd, target: Target, reads: Reads, onReady: () => void): Audience {
  return {
    target,
    reads,
    onReady,
    onUpdates(viewer, updates) {
      const before = viewer.updates;
      viewer.updates += updates;
      if (crowd.noted) note(crowd.noted, before, viewer.updates);
      if (before < crowd.target && viewer.updates >= crowd.target) {
        crowd.missing -= 1;
        if (crowd.missing === 0) crowd.onAll();
      }
    },
    onMessage(bytes) {
      crowd.bytes = bytes;
    },
  };
}

function note({ first, arrivals }: NonNullable<Crowd["noted"]>, before: number, to: number): void {
  const at = now();
  for (let n = before + 1; n <= to; n++) arrivals[n - first]?.push(at);
}
