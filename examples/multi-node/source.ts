// The source: hears what BullMQ does, and publishes it. One process for all nodes and workers.
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { bullmqSource } from "@org/workflow-monitor-bullmq";
import { redisStore } from "@org/workflow-monitor-redis";
import { QUEUE, stageOf } from "./flow.js";
import { onStop, redis, redisUrl, reportConnection, reportOnce, tellReady } from "./process.js";

const store = redisStore({ url: redisUrl });
const monitor = createWorkflowMonitor({ authorize: allowAll, store }); // nobody watches here
monitor.on("error", reportOnce());

const source = bullmqSource({
  queues: [QUEUE],
  connection: redis,
  mode: "flow",
  stageId: ({ id }) => stageOf(id),
  onError: reportOnce(),
});
monitor.attach(source);

reportConnection(store);
onStop(async () => {
  await source.close();
  await monitor.close();
  await store.close();
});
tellReady();
