import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { fastify } from "fastify";
import { JOB_ID, monitorWithJob, type UpdateFrame } from "../payload.js";
import { listen, type Subject } from "./subject.js";

const PATH = `/jobs/${JOB_ID}`;

/** `GET /jobs/:id` as a host sets it up. */
export async function ours(): Promise<Subject> {
  const app = fastify();
  await app.register(workflowMonitorHttp, { monitor: await monitorWithJob() });
  await app.ready();
  return { listen: () => listen(app.server, PATH, "bare"), update() {} };
}

/** The least that Fastify can do: the same bytes, made beforehand, with a content type; or a bare 304. */
export async function bare(frame: UpdateFrame): Promise<Subject> {
  const bytes = Buffer.from(JSON.stringify(frame.job));
  const app = fastify();
  app.get(PATH, (request, reply) => {
    if (request.headers["if-none-match"]) return reply.code(304).send();
    return reply.header("content-type", "application/json; charset=utf-8").send(bytes);
  });
  await app.ready();
  return { listen: () => listen(app.server, PATH, "bare"), update() {} };
}
