import type { JobSnapshot, StageSnapshot } from "@org/workflow-monitor-client";
import { css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { guard } from "lit/directives/guard.js";
import { repeat } from "lit/directives/repeat.js";
import { Announcer } from "./announcer.js";
import { connectionStyles, connectionView } from "./connection-view.js";
import { centre } from "./follow.js";
import { durationOf, jobSentence, percentText } from "./format.js";
import { attemptsView, errorView, progressBar, statusView } from "./stage-view.js";
import { attemptText, isActive } from "./status.js";
import { shared } from "./styles.js";
import { WorkflowElement } from "./workflow-element.js";

/** More stages than this scroll inside the card. */
const MOST_AT_ONCE = 12;

/** `<workflow-job>`: a job as a card, with its progress, its connection and every stage. */
export class WorkflowJob extends WorkflowElement {
  static override styles = [
    shared,
    connectionStyles,
    css`
      .percent {
        font-weight: 600;
        font-size: 1.125rem;
      }

      .stages {
        padding: 0;
        list-style: none;
      }

      .stages.many {
        max-height: var(--workflow-max-height, 30rem);
        margin-inline: -0.5rem;
        padding-inline: 0.5rem;
        overflow-y: auto;
        overscroll-behavior: contain;
        scrollbar-width: thin;
      }

      .stage {
        display: grid;
        gap: 0.3rem;
        padding-block: 0.7rem;
        border-top: 1px solid var(--_line);
        content-visibility: auto;
        contain-intrinsic-block-size: auto 1.5rem; /* without its padding */
      }

      .stage:last-child {
        padding-bottom: 0;
      }

      .stage[data-status="pending"] .name,
      .stage[data-status="skipped"] .name {
        color: var(--_quiet);
      }

      .name {
        font-weight: 500;
        overflow-wrap: anywhere;
      }

      .stage[aria-current] .name {
        font-weight: 700;
      }

      .facts {
        display: flex;
        flex-wrap: wrap;
        gap: 0 0.75rem;
        align-items: baseline;
        font-size: 0.875rem;
      }

      .attempts {
        display: flex;
        flex-wrap: wrap;
        gap: 0.1rem 1rem;
        padding: 0;
        list-style: none;
      }
    `,
  ];

  #said = "";
  /** Somebody has moved the list: it does not follow the job any more. */
  #moved = false;
  #followed: string | null = null;
  readonly #announcer = new Announcer((sentence) => {
    this.#said = sentence;
    this.requestUpdate();
  });

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#announcer.stop();
  }

  protected override update(changed: PropertyValues): void {
    this.#prepare();
    super.update(changed);
  }

  #prepare(): void {
    const { job, connection } = this.watching;
    const lost = connection?.state === "offline" || connection?.state === "failed";
    const trouble = lost ? (connection.cause?.message ?? "The network is gone.") : "";
    if (job) this.#announcer.announce(`${jobSentence(job)}. ${trouble}`.trim());
    else if (trouble) this.#announcer.announce(trouble);
  }

  protected override updated(): void {
    super.updated();
    const current = this.watching.job?.currentStage ?? null;
    if (this.#moved || current === null || current === this.#followed) return;
    this.#followed = current;
    centre(this.renderRoot.querySelector(".many"), ".stage[aria-current]");
  }

  readonly #onMove = (): void => {
    this.#moved = true;
  };

  protected override render(): TemplateResult {
    const { job, connection } = this.watching;
    return html`
      <section class="card" part="card" aria-label=${job?.name ?? this.jobId ?? "Job"} aria-busy=${!job && connection?.state !== "failed"}>
        ${job ? this.#head(job) : this.#unknown()}
        ${connection?.cause && connection.state === "failed" ? html`<p class="error" part="error">${connection.cause.message}</p>` : nothing}
        ${job ? this.#stages(job) : nothing}
      </section>
      <div class="sr" role="status" aria-live="polite">${this.#said}</div>
    `;
  }

  #unknown(): TemplateResult {
    return html`
      <header class="line">
        <span class="title quiet" part="name">${this.jobId ?? "No job"}</span>
        <span class="end">${connectionView(this.connection)}</span>
      </header>
      <div class="bar large" part="bar"></div>
    `;
  }

  #head(job: JobSnapshot): TemplateResult {
    const elapsed = durationOf(job, this.watching.now);
    return html`
      <header class="line">
        <span class="title" part="name">${job.name ?? job.jobId}</span>
        <span class="end">${connectionView(this.connection)}</span>
      </header>
      <div class="line">
        <span part="status">${statusView(job)}</span>
        <span class="quiet small">${job.run > 1 ? `run ${job.run}` : ""}</span>
        <span class="quiet small" part="elapsed">${elapsed ?? ""}</span>
        <span class="percent end" part="percent">${percentText(job)}</span>
      </div>
      ${progressBar(job, `Progress of ${job.name ?? job.jobId}`, "large")}
      ${job.message === null ? nothing : html`<p class="message" part="message">${job.message}</p>`}
      ${errorView(job.error)}
    `;
  }

  #stages(job: JobSnapshot): TemplateResult | typeof nothing {
    if (job.stages.length === 0) return nothing;
    const many = job.stages.length > MOST_AT_ONCE;
    const now = Math.floor(this.watching.now / 1_000) * 1_000;
    return html`<ol
      class="stages ${many ? "many" : ""}"
      part="stages"
      aria-label="Stages"
      tabindex=${many ? 0 : nothing}
      @wheel=${this.#onMove}
      @pointerdown=${this.#onMove}
      @keydown=${this.#onMove}
    >${repeat(
      job.stages,
      ({ stage }) => stage,
      (stage) => {
        const current = stage.stage === job.currentStage;
        // A stage that is not active looks the same at any time.
        const at = isActive(stage.status) ? now : 0;
        return guard([stage, current, at], () => stageView(stage, current, this.watching.now));
      },
    )}</ol>`;
  }
}

const stageView = (stage: StageSnapshot, current: boolean, now: number): TemplateResult => html`<li
  class="stage"
  part="stage ${stage.status}"
  data-status=${stage.status}
  data-stage=${stage.stage}
  aria-current=${current ? "step" : nothing}
>
  <div class="line">
    <span class="name">${stage.name}</span>
    <span class="facts end">
      <span class="quiet">${attemptText(stage)}</span>
      <span class="quiet">${durationOf(stage, now) ?? ""}</span>
      <span class="quiet">${isActive(stage.status) ? percentText(stage) : ""}</span>
      ${statusView(stage)}
    </span>
  </div>
  ${isActive(stage.status) ? progressBar(stage, `Progress of ${stage.name}`) : nothing}
  ${stage.message === null ? nothing : html`<p class="message">${stage.message}</p>`}
  ${errorView(stage.error)}
  ${attemptsView(stage, now)}
</li>`;

declare global {
  interface HTMLElementTagNameMap {
    "workflow-job": WorkflowJob;
  }
}
