import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type PublishedEvent,
  type UpdateEvent,
  type WorkflowMonitor,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import { answer } from "../../bench/child.js";
import { fileLogger, type ToldUpdate, tell } from "./log.js";
import { type Opening, TIMEOUT_MS } from "./settings.js";

/** A process that publishes, and serves nobody. */
export type PublisherCalls = {
  open(opening: Opening): Promise<void>;
  /** The cursor, or the code that it was refused with. */
  publish(event: PublishedEvent): Promise<Cursor | string>;
};

const TERMINAL = ["completed", "failed", "cancelled", "skipped"];
let monitor: WorkflowMonitor;

answer<PublisherCalls>({
  async open({ redis, log }) {
    const logger = fileLogger(log);
    const store = redisStore({ url: redis, timeoutMs: TIMEOUT_MS, logger });
    monitor = createWorkflowMonitor({ authorize: allowAll, store, logger });
    monitor.on("update", (update) => tell({ tell: "update", update: toTell(update) }));
  },
  publish: (event) =>
    monitor.publish(event).catch((error: WorkflowMonitorError): string => error.code),
});

function toTell({ jobId, cursor, event, job }: UpdateEvent): ToldUpdate {
  const { type, id } = event;
  const message = event.type === "plan" ? undefined : event.message;
  const stage = event.type === "stage" ? event.stage : undefined;
  const status = job.stages.find((each) => each.stage === stage)?.status;
  return {
    jobId,
    cursor,
    event: {
      type,
      ...(stage !== undefined && { stage }),
      ...(id !== undefined && { id }),
      ...(message !== undefined && { message }),
    },
    run: job.run,
    end: job.done ? job.status : null,
    stageEnd: status && TERMINAL.includes(status) ? status : null,
  };
}
