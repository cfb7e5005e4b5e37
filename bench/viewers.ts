import { answer } from "./child.js";
import type { Delivery, FanOutSubject, ViewerCalls } from "./messages.js";
import { type Audience, Viewer } from "./viewer.js";

/** A process with all viewers of all subjects in it. */

/** Connections that are being made at a time: fewer than any listen backlog. */
const AT_ONCE = 50;

interface Crowd {
  viewers: Viewer[];
  bytes: number;
  /** What each viewer has to reach; how many have not. */
  target: number;
  missing: number;
  onAll(): void;
}
const crowds = new Map<FanOutSubject, Crowd>();

answer<ViewerCalls>({
  async connect({ subject, port, count }) {
    const crowd = crowds.get(subject) ?? emptyCrowd();
    crowds.set(subject, crowd);
    await new Promise<void>((resolve) => {
      let ready = 0;
      let begun = 0;
      const more = () => {
        while (begun < count && begun - ready < AT_ONCE) {
          begun += 1;
          crowd.viewers.push(new Viewer(audience));
        }
      };
      const audience: Audience = {
        subject,
        port,
        onReady() {
          ready += 1;
          if (ready === count) resolve();
          else more();
        },
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
      more();
    });
    // Newcomers count from where the others stand.
    for (const viewer of crowd.viewers) viewer.updates = crowd.target;
  },

  async expect(subject, updates): Promise<Delivery> {
    const crowd = crowds.get(subject) ?? emptyCrowd();
    crowd.target += updates;
    // Some may be there already: nobody tells which of two processes is first.
    crowd.missing = crowd.viewers.filter((viewer) => viewer.updates < crowd.target).length;
    if (crowd.missing > 0) {
      await new Promise<void>((resolve) => {
        crowd.onAll = resolve;
      });
    }
    if (crowd.viewers.some((viewer) => viewer.updates !== crowd.target)) {
      throw new Error(`${subject} sent more than ${updates} updates.`);
    }
    return { delivered: crowd.viewers.length * updates, bytes: crowd.bytes };
  },
});

function emptyCrowd(): Crowd {
  return { viewers: [], bytes: 0, target: 0, missing: 0, onAll() {} };
}
