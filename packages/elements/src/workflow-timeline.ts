import type { JobSnapshot, StageSnapshot } from "@org/workflow-monitor-client";
import {
  html,
  nothing,
  type PropertyDeclarations,
  type PropertyValues,
  type TemplateResult,
} from "lit";
import { guard } from "lit/directives/guard.js";
import { repeat } from "lit/directives/repeat.js";
import { connectionStyles, connectionView } from "./connection-view.js";
import { centre } from "./follow.js";
import { durationOf, formatDuration, stageSentence } from "./format.js";
import { tell } from "./job-controller.js";
import { mark } from "./marks.js";
import { setStyle } from "./set-style.js";
import { detailsView } from "./stage-view.js";
import { isActive, statusText } from "./status.js";
import { shared } from "./styles.js";
import {
  type Axis,
  axisFor,
  type Bar,
  barsOf,
  extentOf,
  gapsOf,
  positionOn,
  ticksOf,
} from "./timeline-model.js";
import { timelineStyles } from "./timeline-styles.js";
import { WorkflowElement } from "./workflow-element.js";

/** A place for the keyboard: a bar of a row. Rows without bars have one. */
interface Spot {
  stage: string;
  bar: number;
}

/** `<workflow-timeline>`: when each attempt of each stage began and ended. */
export class WorkflowTimeline extends WorkflowElement {
  static override styles = [shared, connectionStyles, timelineStyles];

  static override properties: PropertyDeclarations = {
    chosen: { state: true },
    pointed: { state: true },
  };

  /** Where the keyboard is. */
  declare private chosen: Spot | null;
  /** The stage that is pointed at. */
  declare private pointed: string | null;
  #axis: Axis | null = null;
  /** Somebody has moved the view: it does not follow the job any more. */
  #moved = false;
  #followed: string | null = null;

  constructor() {
    super();
    this.chosen = null;
    this.pointed = null;
  }

  protected override update(changed: PropertyValues): void {
    this.#prepare();
    super.update(changed);
  }

  #prepare(): void {
    const { job, now } = this.watching;
    this.#axis = job ? axisFor(extentOf(job, now), job.done, this.#axis) : null;
  }

  protected override updated(): void {
    super.updated();
    this.#follow();
  }

  /** Keeps the current stage in view, until somebody moves the view. */
  #follow(): void {
    const current = this.watching.job?.currentStage ?? null;
    if (this.#moved || current === null || current === this.#followed) return;
    this.#followed = current;
    centre(this.renderRoot.querySelector(".view"), ".row[aria-current]");
  }

  // ── what people do ─────────────────────────────────────────────────────────────────────────────

  #onKey(event: KeyboardEvent): void {
    const stages = this.watching.job?.stages ?? [];
    const from = this.#tabStop(stages);
    if (!from) return;
    const to = spotAfter(stages, from, event.key);
    if (!to) return;
    event.preventDefault();
    this.#moved = true;
    this.chosen = to;
    const row = stages.findIndex(({ stage }) => stage === to.stage);
    this.renderRoot.querySelector<HTMLElement>(`[data-at="${row}:${to.bar}"]`)?.focus();
  }

  /** The one place that the tab key leads to. */
  #tabStop(stages: readonly StageSnapshot[]): Spot | null {
    const { chosen } = this;
    const stage =
      stages.find(({ stage }) => stage === chosen?.stage) ??
      stages.find(({ stage }) => stage === this.watching.job?.currentStage) ??
      stages[0];
    if (!stage) return null;
    const last = Math.max(0, barsOf(stage).length - 1);
    return {
      stage: stage.stage,
      bar: stage.stage === chosen?.stage ? Math.min(chosen.bar, last) : last,
    };
  }

  readonly #onMove = (): void => {
    this.#moved = true;
  };

  readonly #onLeave = (): void => {
    this.pointed = null;
  };

  // ── what is shown ──────────────────────────────────────────────────────────────────────────────

  protected override render(): TemplateResult {
    const { job, connection } = this.watching;
    const name = job?.name ?? job?.jobId ?? this.jobId ?? "No job";
    return html`<section class="card" part="card" aria-label="Timeline of ${name}" aria-busy=${!job && connection?.state !== "failed"}>
      <header class="line">
        <span class="title" part="name">${name}</span>
        <span class="end">${connectionView(connection)}</span>
      </header>
      ${connection?.cause && connection.state === "failed" ? html`<p class="error" part="error">${connection.cause.message}</p>` : nothing}
      ${job && this.#axis ? this.#chart(job, this.#axis) : html`<div class="view empty"></div>`}
    </section>`;
  }

  #chart(job: JobSnapshot, axis: Axis): TemplateResult {
    const { now, live } = this.watching;
    const ticks = (labelled: boolean) =>
      guard([axis], () =>
        ticksOf(axis).map(
          ({ position, label }) =>
            html`<span class="tick" ${setStyle({ "--at": position })}>${labelled ? html`<span class="label">${label}</span>` : nothing}</span>`,
        ),
      );
    const shown = job.stages.find(({ stage }) => stage === (this.pointed ?? this.chosen?.stage));
    return html`
      <div class="view" part="view" role="group" aria-label="Attempts; arrow keys move between them"
        @keydown=${this.#onKey} @wheel=${this.#onMove} @pointerdown=${this.#onMove} @pointerleave=${this.#onLeave}>
        <div class="plot">
          <div class="axis" part="axis" aria-hidden="true"><div class="scale">${ticks(true)}</div></div>
          <div class="under" aria-hidden="true">${ticks(false)}</div>
          <ol class="rows">${this.#rows(job, axis)}</ol>
          <div class="over" aria-hidden="true">${live && job.status !== "pending" ? html`<span class="now" part="now" ${setStyle({ "--at": positionOn(axis, now) })}></span>` : nothing}</div>
        </div>
      </div>
      <div class="details" part="details">${
        shown ? detailsView(shown, now) : html`<p class="quiet small">${hint(job, axis, now)}</p>`
      }</div>
    `;
  }

  #rows(job: JobSnapshot, axis: Axis): unknown {
    const { now, live } = this.watching;
    const second = Math.floor(now / 1_000);
    const stop = this.#tabStop(job.stages);
    return repeat(
      job.stages,
      ({ stage }) => stage,
      (stage, index) => {
        const current = stage.stage === job.currentStage;
        const at = goesOn(stage) ? second : 0;
        const stopAt = stage.stage === stop?.stage ? stop.bar : -1;
        return guard([stage, index, axis, current, stopAt, at, live], () =>
          this.#row(stage, index, { axis, current, stopAt }),
        );
      },
    );
  }

  #row(
    stage: StageSnapshot,
    index: number,
    { axis, current, stopAt }: { axis: Axis; current: boolean; stopAt: number },
  ): TemplateResult {
    const { now } = this.watching;
    const bars = barsOf(stage);
    const sentence = stageSentence(stage, now);
    const item = (
      bar: number,
      content: TemplateResult | string,
      label: string,
      extra: Bar | null,
    ) =>
      html`<button
        class=${extra ? "span" : "span none"}
        part=${extra ? `bar ${extra.status}` : "nothing"}
        data-at="${index}:${bar}"
        data-status=${extra?.status ?? stage.status}
        aria-label=${label}
        tabindex=${stopAt === bar ? 0 : -1}
        ${setStyle(extra ? this.#extent(axis, extra) : {})}
        @focus=${() => this.#choose({ stage: stage.stage, bar })}
        @click=${() => tell(this, "workflow-select", stage.stage)}
      >${content}</button>`;
    return html`<li
      class="row"
      part="row"
      data-stage=${stage.stage}
      data-status=${stage.status}
      aria-current=${current ? "step" : nothing}
      @pointerenter=${() => {
        this.pointed = stage.stage;
      }}
    >
      <span class="head">${mark(stage.status)}<span class="name">${stage.name}</span><span class="quiet duration">${durationOf(stage, now) ?? ""}</span></span>
      <span class="track">
        ${gapsOf(stage).map((gap) => html`<span class="gap" ${setStyle(this.#extent(axis, gap))}></span>`)}
        ${bars.map((bar, at) =>
          item(
            at,
            html`<span class="sign">${mark(bar.status)}</span>`,
            at === bars.length - 1 ? sentence : attemptSentence(stage, bar),
            bar,
          ),
        )}
        ${bars.length === 0 ? item(0, stage.status === "pending" ? "" : statusText(stage), sentence, null) : nothing}
      </span>
    </li>`;
  }

  /** From where to where, in percent; what goes on ends now. */
  #extent(axis: Axis, { start, end }: { start: number; end: number | null }) {
    return {
      "--from": positionOn(axis, start),
      "--to": positionOn(axis, end ?? this.watching.now),
    };
  }

  #choose(spot: Spot): void {
    this.chosen = spot;
  }
}

/** It looks different as time goes by: it is active, or waits for its next attempt. */
const goesOn = ({ status, attempts }: StageSnapshot): boolean =>
  isActive(status) || (status === "pending" && attempts.length > 0);

const attemptSentence = ({ name }: StageSnapshot, bar: Bar): string =>
  `${name}, attempt ${bar.attempt}: ${statusText(bar)}${
    bar.end === null ? "" : `, ${formatDuration(bar.end - bar.start)}`
  }`;

/** Where a key leads to; null when nowhere. Up and down to other stages, left and right to other attempts. */
function spotAfter(stages: readonly StageSnapshot[], from: Spot, key: string): Spot | null {
  const row = stages.findIndex(({ stage }) => stage === from.stage);
  const lastOf = (at: number) => Math.max(0, barsOf(stages[at] as StageSnapshot).length - 1);
  const at = (next: number, bar: number): Spot | null => {
    const stage = stages[next]?.stage;
    return stage === undefined ? null : { stage, bar: Math.max(0, Math.min(bar, lastOf(next))) };
  };
  switch (key) {
    case "ArrowDown":
      return at(row + 1, from.bar);
    case "ArrowUp":
      return at(row - 1, from.bar);
    case "ArrowRight":
      return at(row, from.bar + 1);
    case "ArrowLeft":
      return at(row, from.bar - 1);
    case "Home":
      return at(0, 0);
    case "End":
      return at(stages.length - 1, 0);
    default:
      return null;
  }
}

let dates: Intl.DateTimeFormat | undefined;

/** What stands below the chart while no stage is chosen. */
function hint(job: JobSnapshot, axis: Axis, now: number): string {
  if (job.startedAt === null) return `Not begun; ${job.counts.total} planned`;
  dates ??= new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return `Began ${dates.format(axis.start)} · ${durationOf(job, now)}`;
}

declare global {
  interface HTMLElementTagNameMap {
    "workflow-timeline": WorkflowTimeline;
  }
}
