import type { Status } from "@org/workflow-monitor-client";
import { html, type TemplateResult } from "lit";

/** A shape for each status: ○ ▶ ⏸ ✓ ✕ ⊘ –, drawn, because fonts disagree about them. */
const PATHS: Record<Status, string> = {
  pending: "M8 2.75a5.25 5.25 0 1 0 0 10.5a5.25 5.25 0 1 0 0-10.5Z",
  running: "M5 3.2v9.6l8-4.8Z",
  waiting: "M5.25 3.5v9M10.75 3.5v9",
  completed: "M2.9 8.6l3.4 3.4l6.8-7.6",
  failed: "M3.9 3.9l8.2 8.2M12.1 3.9l-8.2 8.2",
  cancelled: "M8 2.75a5.25 5.25 0 1 0 0 10.5a5.25 5.25 0 1 0 0-10.5ZM4.4 11.6l7.2-7.2",
  skipped: "M3 8h10",
};

/** The status as a shape. The word stands beside it, or in the label of what it is in. */
export const mark = (status: Status): TemplateResult =>
  html`<svg class="mark" data-status=${status} viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[status]} /></svg>`;
