import type { StageSnapshot } from "./snapshot.js";

/**
 * The percentage of a planned job (SPEC R7): Σ weight · percent / Σ weight, rounded down. Completed
 * and skipped stages count 100, others what they have reached. Weights that sum to 0 count as equal.
 */
export function planProgress(stages: readonly StageSnapshot[]): number {
  let sum = 0;
  let weights = 0;
  let plain = 0;
  for (const stage of stages) {
    const percent =
      stage.status === "completed" || stage.status === "skipped" ? 100 : stage.progress;
    sum += stage.weight * percent;
    weights += stage.weight;
    plain += percent;
  }
  if (stages.length === 0) return 0;
  const percent = weights > 0 ? sum / weights : plain / stages.length;
  // Fractions of weights do not add up exactly: 50 must not become 49 for that.
  return Math.floor(percent + 1e-9);
}
