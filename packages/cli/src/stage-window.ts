import type { StageSnapshot } from "@org/workflow-monitor-client";

const isActive = ({ status }: StageSnapshot) => status === "running" || status === "waiting";

/**
 * The stages to show when there is room for only some of them, in plan order: the active ones, then the
 * failed ones, then those around the first active one (or around the border of what is done).
 */
export function pickStages(stages: readonly StageSnapshot[], room: number): StageSnapshot[] {
  if (stages.length <= room) return [...stages];
  if (room <= 0) return [];
  let centre = stages.findIndex(isActive);
  if (centre === -1) centre = stages.findIndex(({ status }) => status === "pending");
  if (centre === -1) centre = stages.length - 1;
  const rank = (at: number) => {
    const stage = stages[at] as StageSnapshot;
    if (isActive(stage)) return 0;
    return stage.status === "failed" ? 1 : 2;
  };
  return stages
    .map((_, at) => at)
    .sort((a, b) => rank(a) - rank(b) || Math.abs(a - centre) - Math.abs(b - centre) || a - b)
    .slice(0, room)
    .sort((a, b) => a - b)
    .map((at) => stages[at] as StageSnapshot);
}
