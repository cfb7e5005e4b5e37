import type { Connection, JobSnapshot, MonitorClient } from "@org/workflow-monitor-client";
import { LitElement, type PropertyDeclarations } from "lit";
import { nextFrame } from "./frames.js";
import { JobController, type WorkflowEventMap } from "./job-controller.js";
import { everySecond } from "./ticker.js";

/**
 * What the elements have in common: they show the job `job-id` of the server at `url`, live, or the
 * `job` that they are given, as it stands.
 */
export abstract class WorkflowElement extends LitElement {
  static override properties: PropertyDeclarations = {
    jobId: { attribute: "job-id" },
    url: {},
    client: { attribute: false },
    job: { attribute: false },
  };

  declare jobId: string | null;
  /** Of the server, relative to the page. Default: the page's own origin. */
  declare url: string | null;
  /** Instead of the one that all elements with this url share: with a token, for example. */
  declare client: MonitorClient | null;
  /** What to show instead of watching. Time stands still in it. */
  declare job: JobSnapshot | null;
  protected readonly watching: JobController;
  #stopTicking: (() => void) | undefined;
  #observer: IntersectionObserver | undefined;
  #onScreen = true;

  constructor() {
    super();
    this.jobId = null;
    this.url = null;
    this.client = null;
    this.job = null;
    this.watching = new JobController(this);
  }

  /** The state that is shown; null until there is one. */
  get snapshot(): JobSnapshot | null {
    return this.watching.job;
  }

  /** null when nothing is watched. */
  get connection(): Connection | null {
    return this.watching.connection;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#observer = new IntersectionObserver((entries) => {
      this.#onScreen = entries.at(-1)?.isIntersecting ?? true;
      this.#tick();
    });
    this.#observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#observer?.disconnect();
    this.#stopTicking?.();
    this.#stopTicking = undefined;
  }

  protected override updated(): void {
    this.#tick();
  }

  /** Once a second while there is time to show, and somebody who may see it. */
  #tick(): void {
    const { live, connection } = this.watching;
    const counting = connection?.state === "reconnecting";
    if (!this.isConnected || !this.#onScreen || !(live || counting)) {
      this.#stopTicking?.();
      this.#stopTicking = undefined;
    } else if (!this.#stopTicking) {
      this.#stopTicking = everySecond(() => nextFrame(() => this.requestUpdate()));
      this.requestUpdate(); // it may have been off the screen for long
    }
  }
}

declare global {
  interface HTMLElementEventMap extends WorkflowEventMap {}
}
