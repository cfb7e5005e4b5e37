export type { WorkflowEventMap } from "./job-controller.js";
export { WorkflowElement } from "./workflow-element.js";
export { WorkflowGraph } from "./workflow-graph.js";
export { WorkflowJob } from "./workflow-job.js";
export { WorkflowTimeline } from "./workflow-timeline.js";

import { WorkflowGraph } from "./workflow-graph.js";
import { WorkflowJob } from "./workflow-job.js";
import { WorkflowTimeline } from "./workflow-timeline.js";

const elements = {
  "workflow-job": WorkflowJob,
  "workflow-graph": WorkflowGraph,
  "workflow-timeline": WorkflowTimeline,
};

// The first copy on a page defines them; on a server there is nothing to define.
if (typeof document !== "undefined") {
  for (const [name, element] of Object.entries(elements)) {
    if (!customElements.get(name)) customElements.define(name, element);
  }
}
