import { cursorAt, JOB, type ModelFrame, type Step, WITNESS } from "./history-model.js";

type StepOf<D extends Step["do"]> = Extract<Step, { do: D }>;
type FrameStep = StepOf<"frame">;

export interface Fault {
  /** What the checker must say. */
  found: RegExp;
  /** The history with the fault, at one of the places that there are for it; undefined: there is none. */
  in(steps: readonly Step[], pick: number): Step[] | undefined;
}

/** What stands there instead of a step; undefined: the fault does not fit here. */
type Change<D extends Step["do"]> = (
  step: StepOf<D>,
  steps: readonly Step[],
  at: number,
) => Step[] | undefined;

function changed<D extends Step["do"]>(kind: D, change: Change<D>): Fault["in"] {
  return (steps, pick) => {
    const places = steps.flatMap((step, at) => {
      const instead = step.do === kind ? change(step as StepOf<D>, steps, at) : undefined;
      return instead ? [steps.toSpliced(at, 1, ...instead)] : [];
    });
    return places[pick % places.length];
  };
}

/** Changes a frame of somebody else than the witness. */
const frames = (change: Change<"frame">): Fault["in"] =>
  changed("frame", (step, steps, at) =>
    step.viewer === WITNESS ? undefined : change(step, steps, at),
  );

const updates = (change: Change<"frame">): Fault["in"] =>
  frames((step, steps, at) => (isUpdate(step) ? change(step, steps, at) : undefined));

const ends = (change: (step: FrameStep) => Step[]): Fault["in"] =>
  frames((step) => (isEnd(step) ? change(step) : undefined));

/** Snapshots that bring missed events. */
const resumes = (change: (step: FrameStep, events: [string, ...string[]]) => Step): Fault["in"] =>
  frames((step) => {
    const [first, ...events] = (step.frame.resumed && step.frame.events) || [];
    return first === undefined ? undefined : [change(step, [first, ...events])];
  });

const isUpdate = ({ frame }: FrameStep): boolean => frame.type === "update";
const isEnd = ({ frame }: FrameStep): boolean => frame.type === "end";

const withFrame = (step: FrameStep, frame: Partial<ModelFrame>): FrameStep => ({
  ...step,
  frame: { ...step.frame, ...frame },
});

/** What the same viewer gets next. */
function nextOf({ viewer }: FrameStep, steps: readonly Step[], at: number): FrameStep | undefined {
  const mine = (step: Step) => "viewer" in step && step.viewer === viewer && step.do !== "joined";
  const next = steps.slice(at + 1).find(mine);
  return next?.do === "frame" ? next : undefined;
}

const headOf = (steps: readonly Step[]): number =>
  Math.max(...steps.map((step) => (step.do === "published" ? step.at.revision : 0)));

/** One more publish, acknowledged beyond the head. */
const unseen = ({ at }: StepOf<"head">): Step => ({
  do: "published",
  at: cursorAt(at.revision + 1),
  event: { type: "job", timestamp: "2026-01-01T00:00:00.000Z", message: "unseen" },
});

export const faults: Record<string, Fault> = {
  "a lost update": {
    found: /the update after|instead of|the end of a viewer at/,
    in: updates((step, steps, at) => {
      const next = nextOf(step, steps, at);
      return next && next.frame.resumed !== false ? [] : undefined; // a skip would cover it
    }),
  },
  "an update that comes twice": {
    found: /the update after/,
    in: updates((step) => [step, step]),
  },
  "two updates that change places": {
    found: /the update after/,
    in(steps, pick) {
      const swapped = updates((step, all, at) => {
        const next = nextOf(step, all, at);
        return next && isUpdate(next) ? [next, step] : undefined;
      })(steps, pick);
      return swapped && [...new Set(swapped)];
    },
  },
  "an update of another epoch": {
    found: /the update after/,
    in: updates((step) => [
      withFrame(step, { cursor: { ...step.frame.cursor, epoch: "000000000000" } }),
    ]),
  },
  "an update before the snapshot": {
    found: /update before a snapshot/,
    in: updates((step) => [{ do: "joined", viewer: step.viewer }, step]),
  },
  "a frame of another job": {
    found: /a frame of job other/,
    in: updates((step) => [withFrame(step, { jobId: "other" }), step]),
  },
  "a frame that is cut off": {
    found: /JSON text/,
    in: updates((step) => [withFrame(step, { event: '{"type":"job', job: "" }), step]),
  },
  "a frame without its cursor": {
    found: /update without a valid cursor/,
    in: updates((step) => [withFrame(step, { cursor: { epoch: "?", revision: 0 } }), step]),
  },
  "an update without its event": {
    found: /an update without an event/,
    in: updates((step) => {
      const { event: _, ...frame } = step.frame;
      return [{ ...step, frame }];
    }),
  },
  "an update without its job": {
    found: /a frame without the job/,
    in: updates((step) => {
      const { job: _job, patch: _patch, ...frame } = step.frame;
      return [{ ...step, frame }];
    }),
  },
  "a snapshot that is done when its job is not, or the other way round": {
    found: /the snapshot says done (true|false), its job/,
    in: resumes((step) => withFrame(step, { done: !step.frame.done })),
  },
  "a resume with one event too few": {
    found: /resumed from .* with \d+ events instead of/,
    in: resumes((step, [, ...events]) => withFrame(step, { events })),
  },
  "a resume with one event too many": {
    found: /resumed from .* with \d+ events instead of/,
    in: resumes((step, events) => withFrame(step, { events: [events[0], ...events] })),
  },
  "a resume without a cursor": {
    found: /resumed, but the viewer brought no cursor/,
    in: frames((step, steps, at) => {
      const joined = steps[at - 1];
      const brings = joined?.do !== "joined" || joined.after === undefined;
      return brings ? undefined : [withFrame(step, { resumed: true })];
    }),
  },
  "events without resumed": {
    found: /events without resumed/,
    in: resumes((step) => withFrame(step, { resumed: false })),
  },
  "a snapshot that goes back": {
    found: /back from/,
    in: updates((step) => {
      const { jobId, done, cursor } = step.frame;
      const older = cursorAt(cursor.revision - 1);
      const frame = { type: "snapshot", jobId, done, cursor: older, resumed: false } as ModelFrame;
      return [step, { ...step, frame: { ...frame, events: [], job: "{}" } }];
    }),
  },
  "a job of other bytes": {
    found: /the job has other bytes than/,
    in: frames((step) => {
      const { job } = step.frame;
      return job === undefined
        ? undefined
        : [withFrame(step, { job: job.replace('"name":', '"name": ') })];
    }),
  },
  "an event of other bytes": {
    found: /the event has other bytes than/,
    in: updates((step) => [
      withFrame(step, { event: step.frame.event?.replace('"type":', '"type": ') as string }),
    ]),
  },
  "a missed event of other bytes": {
    found: /the event has other bytes than/,
    in: resumes((step, [first, ...events]) =>
      withFrame(step, { events: [first.replace('"type":', '"type": '), ...events] }),
    ),
  },
  "a patch that says something else": {
    found: /by patches, .*: the job has other bytes than/,
    in: frames((step) => {
      const { patch } = step.frame;
      return patch === undefined
        ? undefined
        : [withFrame(step, { patch: patch.replace("{", '{"name":"another",') })];
    }),
  },
  "an update after the end": {
    found: /update after the end/,
    in: ends((step) => [step, withFrame(step, { type: "update" })]),
  },
  "two ends": {
    found: /end after the end/,
    in: ends((step) => [step, step]),
  },
  "an end with another status": {
    found: /the end with status failed of a job that is completed/,
    in: ends((step) => [withFrame(step, { status: "failed" })]),
  },
  "an end at another cursor": {
    found: /the end of a viewer at/,
    in: ends((step) => [withFrame(step, { cursor: cursorAt(step.frame.cursor.revision - 1) })]),
  },
  "an end of a job that goes on": {
    found: /the end with status completed of a job that is running/,
    in: updates((step, steps) => {
      const { cursor } = step.frame;
      if (cursor.revision === headOf(steps)) return undefined;
      return [step, { ...step, frame: { type: "end", jobId: JOB, cursor, status: "completed" } }];
    }),
  },
  "a viewer stuck behind the head": {
    found: /never reached the head .*: the publish acknowledged at .* is unseen/,
    in(steps, pick) {
      const behind = steps.filter(
        (step) =>
          step.do === "frame" &&
          step.viewer !== WITNESS &&
          step.frame.cursor.revision < headOf(steps),
      );
      const last = behind[pick % behind.length] as FrameStep;
      const end = steps.indexOf(last);
      const mine = (step: Step) => "viewer" in step && step.viewer === last.viewer;
      return steps.filter((step, at) => at <= end || !mine(step));
    },
  },
  "a poll that goes back": {
    found: /over poll, .*: back from/,
    in: changed("polled", (step) => [
      step,
      { ...step, body: step.body.replace(/"revision":\d+}$/, '"revision":1}') },
    ]),
  },
  "a poll of other bytes": {
    found: /over poll, .*: the job has other bytes than/,
    in: changed("polled", (step) => [{ ...step, body: `${step.body} ` }]),
  },
  "a poll that says no cursor": {
    found: /over poll, .*: a body without a cursor/,
    in: changed("polled", (step) => [{ ...step, body: "{}" }]),
  },
  "something that was never published": {
    found: /seen, but only .* was published/,
    in: (steps) =>
      steps.filter(
        (step) =>
          step.do !== "head" && !(step.do === "published" && step.at.revision === headOf(steps)),
      ),
  },
  "something beyond the head": {
    found: /seen, but only .* was published/,
    in: changed("head", (step) => [{ ...step, at: cursorAt(step.at.revision - 1) }]),
  },
  "a run of which no publish is recorded": {
    found: /was seen, but nothing is recorded as published/,
    in: (steps) => steps.filter((step) => step.do !== "published" && step.do !== "head"),
  },
  "an event that nobody published": {
    found: /the event is none of those that were acknowledged here/,
    in: (steps, pick) => {
      const revision = 3 + (pick % (headOf(steps) - 2)); // the witness saw the events from 3 on
      return steps.map((step) => {
        if (step.do !== "published" || step.at.revision !== revision) return step;
        return { ...step, event: { ...step.event, id: "another" } };
      });
    },
  },
  "an acknowledged publish that the store lost": {
    found: /publisher, .*: acknowledged, but the head is/,
    in: changed("head", (step) => [unseen(step), step]),
  },
  "an acknowledged publish that nobody saw": {
    found: /never reached the head .*: the publish acknowledged at .* is unseen/,
    in: (steps, pick) =>
      changed("head", (step) => [unseen(step)])(
        steps.filter((step) => step.do !== "frame" || !isEnd(step)),
        pick,
      ),
  },
};
