import { WorkflowGraph, WorkflowJob, WorkflowTimeline } from "@org/workflow-monitor-elements";
import { expect, test } from "vitest";

test("on a server the package can be imported, and defines nothing", () => {
  for (const element of [WorkflowJob, WorkflowGraph, WorkflowTimeline]) {
    expect(typeof element).toBe("function");
  }
  expect(globalThis.customElements?.get("workflow-job")).toBeUndefined();
});
