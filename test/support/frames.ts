import type { Frame, FrameType } from "@org/workflow-monitor";

/** A frame of one type. */
export type FrameOf<T extends FrameType> = Extract<Frame, { type: T }>;

/** The frame, if it is of this type; throws otherwise. */
export function as<T extends FrameType>(type: T, frame: Frame | undefined): FrameOf<T> {
  if (frame?.type !== type) {
    throw new Error(`expected a frame ${type}, got ${JSON.stringify(frame)?.slice(0, 300)}`);
  }
  return frame as FrameOf<T>;
}

const revisionOf = (cursor: string): number => Number(cursor.slice(cursor.indexOf(".") + 1));

/**
 * The revisions whose events these frames bring, in order: those of updates, and those that
 * snapshots catch up on. What they bring twice stands there twice.
 */
export function revisionsIn(frames: readonly Frame[]): number[] {
  const revisions: number[] = [];
  for (const frame of frames) {
    if (frame.type === "update") revisions.push(revisionOf(frame.cursor));
    else if (frame.type === "snapshot") {
      const head = revisionOf(frame.cursor);
      frame.events.forEach((_, at) => {
        revisions.push(head - frame.events.length + 1 + at);
      });
    }
  }
  return revisions;
}

/** The numbers from `first` to `last`. */
export const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
