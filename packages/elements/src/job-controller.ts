import type {
  Connection,
  JobSnapshot,
  JobWatch,
  MonitorClient,
  MonitorClientError,
} from "@org/workflow-monitor-client";
import type { ReactiveController, ReactiveControllerHost } from "lit";
import { shareClient } from "./clients.js";
import { nextFrame } from "./frames.js";
import { notShown, readJob } from "./job.js";

/** What an element says that it wants to show. */
export interface JobHost extends ReactiveControllerHost, EventTarget {
  readonly isConnected: boolean;
  jobId: string | null;
  url: string | null;
  client: MonitorClient | null;
  job: JobSnapshot | null;
}

/** What elements tell the page: events that bubble, also out of shadow trees. */
export interface WorkflowEventMap {
  /** The state has changed and is shown: at most once a frame. */
  "workflow-change": CustomEvent<JobSnapshot>;
  /** The job is over: once. */
  "workflow-done": CustomEvent<JobSnapshot>;
  "workflow-connection": CustomEvent<Connection>;
  /** The job cannot be watched, and is given up. */
  "workflow-error": CustomEvent<MonitorClientError>;
  /** Somebody has chosen a stage: its id. */
  "workflow-select": CustomEvent<string>;
}

export function tell<T extends keyof WorkflowEventMap>(
  target: EventTarget,
  type: T,
  detail: WorkflowEventMap[T]["detail"],
): void {
  target.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
}

type Wanted = Pick<JobHost, "jobId" | "url" | "client" | "job">;

const isSame = (one: Wanted | null, other: Wanted): boolean =>
  one?.jobId === other.jobId &&
  one.url === other.url &&
  one.client === other.client &&
  one.job === other.job;

/**
 * Watches the job that its host names, while the host is on the page. However many updates come, the
 * host is asked to render at most once a frame, with the newest state; not at all while the page is hidden.
 */
export class JobController implements ReactiveController {
  /** null: there is none yet. */
  job: JobSnapshot | null = null;
  /** null: nothing is watched, as with a job that was given. */
  connection: Connection | null = null;
  readonly #host: JobHost;
  #wanted: Wanted | null = null;
  #watch: JobWatch | null = null;
  /** What `job` was read from. */
  #snapshot: JobSnapshot | null = null;
  #endings: (() => void)[] = [];
  #cancelFrame: (() => void) | null = null;
  #changed = false;
  /** How far the server's clock is ahead of this one, as far as updates show it. */
  #aheadMs = 0;
  #now = 0;

  constructor(host: JobHost) {
    this.#host = host;
    host.addController(this);
  }

  /** Time goes on: the job is not over, and somebody would tell if it were. */
  get live(): boolean {
    if (!this.connection || this.connection.state === "failed") return false;
    return this.job?.done === false;
  }

  /** The server's time, in milliseconds since 1970; of a job that is not live, when it was last heard of. */
  get now(): number {
    if (this.live) this.#now = Date.now() + this.#aheadMs;
    else if (this.job && this.#now === 0) this.#now = Date.parse(this.job.updatedAt);
    return this.#now;
  }

  hostConnected(): void {
    this.#host.requestUpdate();
  }

  hostUpdate(): void {
    const { jobId, url, client, job } = this.#host;
    const wanted = { jobId, url, client, job };
    if (!this.#host.isConnected || isSame(this.#wanted, wanted)) return;
    this.#stop();
    if (this.job?.jobId !== (job?.jobId ?? jobId)) this.job = null;
    this.#wanted = wanted;
    this.#now = 0;
    this.#aheadMs = 0;
    if (job) this.job = readJob(job, jobId ?? "");
    else if (jobId) this.#start(jobId, client, url);
  }

  hostUpdated(): void {
    if (!this.#changed || !this.job) return;
    this.#changed = false;
    tell(this.#host, "workflow-change", this.job);
  }

  hostDisconnected(): void {
    this.#stop();
  }

  #start(jobId: string, client: MonitorClient | null, url: string | null): void {
    const shared = client ? { client, release: () => undefined } : shareClient(url ?? "/");
    const watch = shared.client.watch(jobId);
    this.#watch = watch;
    this.connection = watch.connection;
    this.#take(watch.snapshot);
    this.#endings = [
      watch.on("change", (job) => {
        this.#take(job);
        this.#schedule();
      }),
      watch.on("connection", (connection) => {
        this.#schedule();
        tell(this.#host, "workflow-connection", connection);
        if (connection.state === "failed" && connection.cause) {
          tell(this.#host, "workflow-error", connection.cause);
        }
      }),
      watch.on("done", (job) => tell(this.#host, "workflow-done", job)),
      () => watch.close(),
      shared.release,
    ];
  }

  #take(job: JobSnapshot | null): void {
    if (!job) return;
    // A shape of the host's own may leave the time out.
    this.#aheadMs = Math.max(this.#aheadMs, Date.parse(job.updatedAt) - Date.now() || 0);
  }

  /** Renders in the next frame: what comes until then is shown along with it. */
  #schedule(): void {
    this.#cancelFrame ??= nextFrame(() => {
      this.#cancelFrame = null;
      if (!this.#watch) return;
      const { snapshot, jobId, connection } = this.#watch;
      if (snapshot && snapshot !== this.#snapshot) {
        const job = readJob(snapshot, jobId);
        if (!job) return this.#fail();
        this.#snapshot = snapshot;
        this.#changed = this.job !== job;
        this.job = job;
      }
      this.connection = connection;
      this.#host.requestUpdate();
    });
  }

  /** The job cannot be shown, and is not watched any longer. */
  #fail(): void {
    const wanted = this.#wanted;
    this.#stop();
    this.#wanted = wanted;
    const failed = notShown();
    this.connection = failed;
    this.#host.requestUpdate();
    tell(this.#host, "workflow-connection", failed);
    tell(this.#host, "workflow-error", failed.cause);
  }

  #stop(): void {
    for (const end of this.#endings) end();
    this.#endings = [];
    this.#watch = null;
    this.#snapshot = null;
    this.#wanted = null;
    this.connection = null;
    this.#cancelFrame?.();
    this.#cancelFrame = null;
  }
}
