import { allowAll, createEngine, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { WebSocket } from "ws";

const engine = createEngine(); // or any typed emitter of yours with the same events
const monitor = createWorkflowMonitor({ authorize: allowAll }); // nobody gets in by default
monitor.attach(engine);
const app = Fastify().addHook("onClose", () => monitor.close());
await app.register(workflowMonitorHttp, { monitor }); // GET /jobs/42
attachWebSocket(app.server, { monitor }); // ws://…/ws?jobId=42
const url = await app.listen({ port: 0 });

engine.emit("plan", { jobId: "42", stages: [{ stage: "build" }, { stage: "test" }] });
engine.emit("stage", { jobId: "42", stage: "build", status: "completed" });
// Somebody watches, and sees 50, 100 and the end:
const viewer = new WebSocket(`${url}/ws?jobId=42`).on("close", () => void app.close());
viewer.on("message", (data) => console.log(JSON.parse(String(data)).job?.progress ?? "end"));
viewer.once("message", () => engine.emit("job", { jobId: "42", status: "completed" }));
