import {
  type JobPage,
  type JobSnapshot,
  type JobSummary,
  type Json,
  STATUSES,
  type StageSnapshot,
  type Status,
  type WorkflowEvent,
} from "@org/workflow-monitor";
import type { FastifySchema } from "fastify";
import { type Static, type TSchema, Type } from "typebox";

/** The shapes of the routes: for validation and for `@fastify/swagger`. */

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const status = Type.Unsafe<Status>({ type: "string", enum: [...STATUSES] });
const time = Type.String({ format: "date-time", description: "ISO 8601, UTC" });
const percent = Type.Integer({ minimum: 0, maximum: 100 });
const anyJson = Type.Unsafe<Json | null>({});
const publicError = Type.Object({ code: Type.String(), message: Type.String() });
const counts = Type.Object({
  total: Type.Integer(),
  pending: Type.Integer(),
  running: Type.Integer(),
  waiting: Type.Integer(),
  completed: Type.Integer(),
  failed: Type.Integer(),
  cancelled: Type.Integer(),
  skipped: Type.Integer(),
});

const stage = Type.Object({
  stage: Type.String(),
  name: Type.String(),
  status,
  reason: nullable(Type.String()),
  progress: percent,
  indeterminate: Type.Boolean(),
  weight: Type.Number(),
  dependsOn: Type.Array(Type.String()),
  attempt: Type.Integer(),
  maxAttempts: nullable(Type.Integer()),
  allowFailure: Type.Boolean(),
  planned: Type.Boolean(),
  attempts: Type.Array(
    Type.Object({
      attempt: Type.Integer(),
      status,
      reason: nullable(Type.String()),
      startedAt: nullable(time),
      finishedAt: nullable(time),
    }),
  ),
  startedAt: nullable(time),
  finishedAt: nullable(time),
  updatedAt: time,
  message: nullable(Type.String()),
  error: nullable(publicError),
  metadata: anyJson,
});

const summary = {
  jobId: Type.String(),
  name: nullable(Type.String()),
  run: Type.Integer(),
  status,
  reason: nullable(Type.String()),
  done: Type.Boolean({ description: "The status is final" }),
  planned: Type.Boolean({ description: "The stages were declared" }),
  derived: Type.Boolean({ description: "The status was concluded from the stages" }),
  progress: percent,
  indeterminate: Type.Boolean(),
  currentStage: nullable(Type.String()),
  activeStages: Type.Array(Type.String()),
  counts,
  message: nullable(Type.String()),
  error: nullable(publicError),
  labels: Type.Record(Type.String(), Type.String()),
  metadata: anyJson,
  createdAt: time,
  startedAt: nullable(time),
  finishedAt: nullable(time),
  updatedAt: time,
  epoch: Type.String(),
  revision: Type.Integer(),
};

export const jobSnapshot = Type.Object(
  { ...summary, stages: Type.Array(stage) },
  { description: "The job as it is now" },
);

/** A `snapshot` frame: PROTOCOL.md. */
export const snapshotFrame = Type.Object(
  {
    type: Type.Literal("snapshot"),
    jobId: Type.String(),
    cursor: Type.String({ description: "the viewer's from now on" }),
    resumed: Type.Boolean({ description: "events has everything since the viewer's cursor" }),
    done: Type.Boolean(),
    heartbeatMs: Type.Integer(),
    events: Type.Array(Type.Unsafe<WorkflowEvent>({ type: "object", additionalProperties: true })),
    job: jobSnapshot,
  },
  { description: "The job as it is now, and what happened since a cursor" },
);

export const jobPage = Type.Object(
  {
    jobs: Type.Array(Type.Object(summary)),
    next: nullable(Type.String({ description: "cursor of the next page" })),
  },
  { description: "Summaries, newest first" },
);

/**
 * RFC 9457. Ours have the first five; what a hook of the host answers on these routes passes through
 * the same schema, and has Fastify's three.
 */
const problem = Type.Object(
  {
    type: Type.Optional(Type.String()),
    title: Type.Optional(Type.String()),
    status: Type.Optional(Type.Integer()),
    detail: Type.Optional(Type.String()),
    code: Type.Optional(Type.String({ description: "Stable; tell problems apart by it" })),
    statusCode: Type.Optional(Type.Integer()),
    error: Type.Optional(Type.String()),
    message: Type.Optional(Type.String()),
  },
  { description: "What is wrong and what to do" },
);

/** What every route may answer instead. */
export const failures = { "4xx": problem, "5xx": problem };

/** `summary` is known to `@fastify/swagger`'s types only, which hosts may do without. */
export const documented = (summary: string, schema: FastifySchema): FastifySchema =>
  ({ summary, ...schema }) as FastifySchema;

export const listQuery = Type.Object({
  status: Type.Optional(status),
  label: Type.Optional(
    Type.Array(Type.String({ pattern: "^[^:]+:", maxLength: 512 }), {
      maxItems: 8,
      description: "key:value; more than one must all fit",
    }),
  ),
  limit: Type.Integer({ minimum: 1, maximum: 200, default: 50 }),
  cursor: Type.Optional(Type.String({ maxLength: 512, description: "next of the page before" })),
});

// The interfaces of the core are what people read; that the schemas say the same is checked here.
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
type Row = Static<(typeof jobPage)["properties"]["jobs"]["items"]>;
[true, true, true, true] satisfies [
  Same<Static<typeof stage>, StageSnapshot>,
  Same<Static<typeof jobSnapshot>, JobSnapshot>,
  Same<Row, JobSummary>,
  Same<Static<typeof jobPage>, JobPage>,
];
