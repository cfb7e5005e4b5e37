import { answer } from "./child.js";
import type { Delivery, Target, ViewerCalls } from "./messages.js";
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
  onAll(): void;
}
const crowds = new Map<string, Crowd>();

function crowdOf(name: string): Crowd {
  let crowd = crowds.get(name);
  if (!crowd) {
    crowd = { viewers: [], bytes: 0, target: 0, missing: 0, onAll() {} };
    crowds.set(name, crowd);
  }
  return crowd;
}

answer<ViewerCalls>({
  async connect(name, target, count) {
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
      const audience = audienceOf(crowd, target, () => {
        ready += 1;
        if (ready === count) resolve();
        else more();
      });
      more();
    });
    // Newcomers count from where the others stand.
    for (const viewer of crowd.viewers) viewer.updates = crowd.target;
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

function audienceOf(crowd: Crowd, target: Target, onReady: () => void): Audience {
  return {
    target,
    onReady,
    onUpdates(viewer, updates) {
      const before = viewer.updates;
      viewer.updates += updates;
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
