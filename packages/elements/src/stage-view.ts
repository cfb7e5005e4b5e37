import type { JobSnapshot, StageAttempt, StageSnapshot } from "@org/workflow-monitor-client";
import { html, nothing, type TemplateResult } from "lit";
import { durationOf, percentText } from "./format.js";
import { mark } from "./marks.js";
import { setStyle } from "./set-style.js";
import { attemptText, isActive, statusText } from "./status.js";

type Shown = Pick<StageSnapshot, "status" | "reason">;

export const statusView = (shown: Shown): TemplateResult =>
  html`<span class="status" data-status=${shown.status}>${mark(shown.status)}${statusText(shown)}</span>`;

/** The bar of a stage or of the whole job. */
export const progressBar = (
  { status, progress, indeterminate }: StageSnapshot | JobSnapshot,
  label: string,
  size: "small" | "large" = "small",
): TemplateResult => html`<div
  class="bar ${size} ${indeterminate && isActive(status) ? "indeterminate" : ""}"
  part="bar"
  data-status=${status}
  role="progressbar"
  aria-label=${label}
  aria-valuemin="0"
  aria-valuemax="100"
  aria-valuenow=${indeterminate ? nothing : progress}
><div class="fill" ${setStyle({ "--percent": progress })}></div></div>`;

export const errorView = (
  error: { code: string; message: string } | null,
): TemplateResult | typeof nothing =>
  error
    ? html`<p class="error" part="error"><span class="code">${error.code}</span> ${error.message}</p>`
    : nothing;

const attemptView = (attempt: StageAttempt, now: number): TemplateResult => html`<li>
  <span class="quiet">${attempt.attempt}.</span>
  ${statusView(attempt)}
  <span class="quiet">${durationOf(attempt, now) ?? ""}</span>
</li>`;

/** Every attempt with how long it took, the present one last; nothing when there was only one. */
export const attemptsView = (stage: StageSnapshot, now: number): TemplateResult | typeof nothing =>
  stage.attempts.length === 0
    ? nothing
    : html`<ol class="attempts small" part="attempts" aria-label="Attempts of ${stage.name}">
        ${[...stage.attempts, stage].map((attempt) => attemptView(attempt, now))}
      </ol>`;

/** All there is to tell of a stage, for the panels below the graph and the timeline. */
export const detailsView = (stage: StageSnapshot, now: number): TemplateResult => html`
  <div class="line">
    <strong>${stage.name}</strong>
    ${statusView(stage)}
    <span class="quiet small">${[
      isActive(stage.status) ? percentText(stage) : "",
      attemptText(stage),
      durationOf(stage, now) ?? "",
    ]
      .filter((part) => part !== "")
      .join(" · ")}</span>
  </div>
  ${
    stage.dependsOn.length > 0
      ? html`<p class="quiet small">after ${stage.dependsOn.join(", ")}</p>`
      : nothing
  }
  ${stage.message === null ? nothing : html`<p class="message">${stage.message}</p>`}
  ${errorView(stage.error)}
  ${attemptsView(stage, now)}
`;
