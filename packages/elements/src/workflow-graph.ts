import type { JobSnapshot, StageSnapshot } from "@org/workflow-monitor-client";
import {
  html,
  nothing,
  type PropertyDeclarations,
  type PropertyValues,
  svg,
  type TemplateResult,
} from "lit";
import { guard } from "lit/directives/guard.js";
import { repeat } from "lit/directives/repeat.js";
import { connectionStyles, connectionView } from "./connection-view.js";
import { durationOf, percentText, stageRest } from "./format.js";
import { type GraphModel, graphModel, isSameGraph } from "./graph-model.js";
import { graphStyles } from "./graph-styles.js";
import { tell } from "./job-controller.js";
import { layOut } from "./layout.js";
import { mark } from "./marks.js";
import {
  type Direction,
  grid,
  NODE_HEIGHT,
  NODE_WIDTH,
  neighbour,
  type Placement,
  parts,
  pathOf,
  quickPlacement,
  withLoose,
} from "./placement.js";
import { setStyle } from "./set-style.js";
import { detailsView } from "./stage-view.js";
import { isActive, statusText } from "./status.js";
import { shared } from "./styles.js";
import { WorkflowElement } from "./workflow-element.js";

/** In CSS pixels: a narrower place gets a graph from top to bottom. */
const NARROW = 560;
const ZOOMS = [0.25, 0.35, 0.5, 0.7, 0.85, 1, 1.25, 1.5];

/** `<workflow-graph>`: the stages of a job and what they wait for. */
export class WorkflowGraph extends WorkflowElement {
  static override styles = [shared, connectionStyles, graphStyles];

  static override properties: PropertyDeclarations = {
    chosen: { state: true },
    pointed: { state: true },
    zoom: { state: true },
    placement: { state: true },
  };

  /**
   * Where the worker is that lays graphs out, for pages whose bundler does not find
   * `new URL("./layout-worker.js", import.meta.url)` by itself. Default null: beside this module.
   */
  static workerUrl: string | URL | null = null;

  /** The stage that the keyboard is at. */
  declare private chosen: string | null;
  /** The stage that is pointed at. */
  declare private pointed: string | null;
  declare private zoom: number;
  declare private placement: Placement | null;
  #stages: readonly StageSnapshot[] = [];
  #model: GraphModel = { nodes: [], edges: [] };
  /** Changes when the status of any stage does: all that edges depend on. */
  #statuses = 0;
  #width = 0;
  #resize: ResizeObserver | undefined;
  /** Counts placements, so that a late answer is not taken for the newest. */
  #generation = 0;
  /** The layout library has answered. */
  #laidOut = false;
  /** Somebody has moved the view: it does not follow the job any more. */
  #moved = false;
  #followed: string | null = null;

  constructor() {
    super();
    this.chosen = null;
    this.pointed = null;
    this.zoom = 1;
    this.placement = null;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#resize = new ResizeObserver(([entry]) => this.#resized(entry?.contentRect.width ?? 0));
    this.#resize.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#resize?.disconnect();
  }

  protected override update(changed: PropertyValues): void {
    this.#prepare();
    super.update(changed);
  }

  #prepare(): void {
    const stages = this.watching.job?.stages ?? [];
    if (!isSameGraph(stages, this.#stages)) {
      this.#model = graphModel(stages);
      this.#place();
    }
    if (!isSameProgress(stages, this.#stages)) this.#statuses += 1;
    this.#stages = stages;
  }

  protected override updated(): void {
    super.updated();
    this.#follow();
  }

  // ── where things are ───────────────────────────────────────────────────────────────────────────

  #resized(width: number): void {
    const before = this.#width;
    this.#width = Math.floor(width);
    const turned = before < NARROW !== this.#width < NARROW;
    // What nothing connects fills the width; the rest only turns.
    if (before === 0 || turned || parts(this.#model).loose.length > 0) this.#place();
  }

  /** Places the graph plainly at once, and well as soon as the layout library has answered. */
  #place(): void {
    this.#generation += 1;
    this.#laidOut = false;
    if (this.#width === 0 || this.#model.nodes.length === 0) {
      this.placement = null;
      return;
    }
    const direction: Direction = this.#width < NARROW ? "down" : "right";
    const { connected, loose } = parts(this.#model);
    const width = this.#width - 2; // inside the borders
    if (connected.nodes.length === 0) {
      this.#show(grid(loose, width));
      return;
    }
    this.#show(withLoose(quickPlacement(connected, direction), loose, width));
    const generation = this.#generation;
    layOut(connected, direction, WorkflowGraph.workerUrl).then(
      (placed) => {
        if (generation !== this.#generation) return;
        this.#laidOut = true;
        this.#show(withLoose(placed, loose, width));
      },
      () => undefined, // the plain one stays
    );
  }

  #show(placement: Placement): void {
    this.placement = placement;
    this.#followed = null;
    if (this.#moved) return;
    const fitting = (this.#width - 2) / placement.width;
    this.zoom = fitting >= 1 ? 1 : Math.max(fitting, 0.85);
  }

  /** Keeps the current stage in view, until somebody moves the view. */
  #follow(): void {
    const current = this.watching.job?.currentStage ?? null;
    const at = current === null ? undefined : this.placement?.nodes.get(current);
    if (this.#moved || !at || current === this.#followed) return;
    const view = this.renderRoot.querySelector<HTMLElement>(".view");
    if (!view) return;
    const first = this.#followed === null;
    this.#followed = current;
    view.scrollTo({
      left: (at.x + NODE_WIDTH / 2) * this.zoom - view.clientWidth / 2,
      top: (at.y + NODE_HEIGHT / 2) * this.zoom - view.clientHeight / 2,
      behavior: first || matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
  }

  // ── what people do ─────────────────────────────────────────────────────────────────────────────

  #zoomBy(steps: number): void {
    this.#moved = true;
    const nearest = ZOOMS.reduce((best, zoom) =>
      Math.abs(zoom - this.zoom) < Math.abs(best - this.zoom) ? zoom : best,
    );
    const at = Math.min(ZOOMS.length - 1, Math.max(0, ZOOMS.indexOf(nearest) + steps));
    this.zoom = ZOOMS[at] ?? 1;
  }

  #fit(): void {
    const view = this.renderRoot.querySelector<HTMLElement>(".view");
    if (!view || !this.placement) return;
    this.#moved = false;
    const { width, height } = this.placement;
    const tallest = Number.parseFloat(getComputedStyle(view).maxHeight) || view.clientHeight;
    this.zoom = Math.max(0.1, Math.min(1, view.clientWidth / width, tallest / height));
  }

  #onKey(event: KeyboardEvent): void {
    const from = this.#tabStop();
    if (!this.placement || from === null) return;
    const { nodes } = this.placement;
    const all = this.#model.nodes;
    const to =
      event.key === "Home"
        ? all[0]
        : event.key === "End"
          ? all.at(-1)
          : neighbour(nodes, from, event.key);
    if (to === undefined || to === null) return;
    event.preventDefault();
    this.#moved = true;
    this.chosen = to;
    this.renderRoot.querySelector<HTMLElement>(`[data-at="${all.indexOf(to)}"]`)?.focus();
  }

  /** The one stage that the tab key leads to. */
  #tabStop(): string | null {
    const { nodes } = this.#model;
    for (const stage of [this.chosen, this.watching.job?.currentStage]) {
      if (stage && this.placement?.nodes.has(stage)) return stage;
    }
    return nodes[0] ?? null;
  }

  // ── what is shown ──────────────────────────────────────────────────────────────────────────────

  protected override render(): TemplateResult {
    const { job, connection } = this.watching;
    return html`<section class="card" part="card" aria-label="Graph of ${job?.name ?? job?.jobId ?? this.jobId ?? "no job"}" aria-busy=${!job && connection?.state !== "failed"}>
      <header class="line">
        <span class="title" part="name">${job?.name ?? job?.jobId ?? this.jobId ?? "No job"}</span>
        <span class="end line">${connectionView(connection)}${job ? this.#tools() : nothing}</span>
      </header>
      ${connection?.cause && connection.state === "failed" ? html`<p class="error" part="error">${connection.cause.message}</p>` : nothing}
      ${job ? this.#graph(job) : html`<div class="view empty"></div>`}
    </section>`;
  }

  #tools(): TemplateResult {
    const tool = (label: string, sign: string, act: () => void) =>
      html`<button class="tool" part="tool" aria-label=${label} title=${label} @click=${act}>${sign}</button>`;
    return html`<span class="tools">
      ${tool("Zoom out", "−", () => this.#zoomBy(-1))}${tool("Zoom in", "+", () => this.#zoomBy(1))}${tool("Fit", "Fit", () => this.#fit())}
    </span>`;
  }

  #graph(job: JobSnapshot): TemplateResult {
    const { placement, zoom } = this;
    if (!placement) {
      return html`<div class="view empty"><p class="quiet small">There are no stages yet.</p></div>`;
    }
    const { width, height } = placement;
    const byName = new Map(job.stages.map((stage) => [stage.stage, stage]));
    const shown = byName.get(this.pointed ?? this.chosen ?? "");
    return html`
      <div class="view" part="view" role="group" aria-label="Stages; arrow keys move between them"
        @keydown=${this.#onKey} @wheel=${this.#onMove} @pointerdown=${this.#onMove} @pointerleave=${this.#onLeave}>
        <div class="sheet" ${setStyle({ "--width": `${width}px`, "--height": `${height}px`, "--zoom": zoom })}>
          <div class="canvas" ?data-laid-out=${this.#laidOut}>
            ${this.#edges(placement, byName)}
            ${this.#nodes(job, placement)}
          </div>
        </div>
      </div>
      <div class="details" part="details">${
        shown
          ? detailsView(shown, this.watching.now)
          : html`<p class="quiet small">${hint(job)}</p>`
      }</div>
    `;
  }

  readonly #onMove = (): void => {
    this.#moved = true;
  };

  readonly #onLeave = (): void => {
    this.pointed = null;
  };

  #edges(placement: Placement, byName: ReadonlyMap<string, StageSnapshot>): TemplateResult {
    const edges = guard([placement, this.#statuses], () =>
      this.#model.edges.map((edge) => {
        const state = edgeState(byName.get(edge.from), byName.get(edge.to));
        return svg`<path
          class="edge ${edge.back ? "back" : ""}"
          data-state=${state}
          d=${guard([placement], () => pathOf(placement.edges.get(edge.id) ?? []))}
        />`;
      }),
    );
    return html`<svg class="edges" aria-hidden="true" width=${placement.width} height=${placement.height}>${edges}</svg>`;
  }

  #nodes(job: JobSnapshot, { nodes }: Placement): unknown {
    const tabStop = this.#tabStop();
    const now = Math.floor(this.watching.now / 1_000) * 1_000;
    return repeat(
      job.stages,
      ({ stage }) => stage,
      (stage, index) => {
        const place = nodes.get(stage.stage);
        const current = stage.stage === job.currentStage;
        const stop = stage.stage === tabStop;
        const at = isActive(stage.status) ? now : 0;
        return guard([stage, index, place, current, stop, at], () =>
          place ? this.#node(stage, index, { ...place, current, stop }) : nothing,
        );
      },
    );
  }

  #node(
    stage: StageSnapshot,
    index: number,
    { x, y, current, stop }: { x: number; y: number; current: boolean; stop: boolean },
  ): TemplateResult {
    const { now } = this.watching;
    const active = isActive(stage.status);
    const facts = [
      statusText({ ...stage, reason: null }),
      active ? percentText(stage) : "",
      stage.attempt > 1 ? `try ${stage.attempt}` : "",
      durationOf(stage, now) ?? "",
    ].filter((fact) => fact !== "");
    return html`<button
      class="node"
      part="node ${stage.status}"
      data-at=${index}
      data-stage=${stage.stage}
      data-status=${stage.status}
      aria-current=${current ? "step" : nothing}
      tabindex=${stop ? 0 : -1}
      ${setStyle({ "--x": `${x}px`, "--y": `${y}px` })}
      @focus=${() => this.#choose(stage.stage)}
      @click=${() => tell(this, "workflow-select", stage.stage)}
      @pointerenter=${() => {
        this.pointed = stage.stage;
      }}
    >
      ${mark(stage.status)}
      <span class="name">${stage.name}</span>
      <span class="facts">${facts.join(" · ")}</span>
      <span class="sr">${stageRest(stage)}</span>
      ${active && !stage.indeterminate ? html`<span class="done" ${setStyle({ "--percent": stage.progress })}></span>` : nothing}
    </button>`;
  }

  #choose(stage: string): void {
    this.chosen = stage;
  }
}

const isSameProgress = (one: readonly StageSnapshot[], other: readonly StageSnapshot[]): boolean =>
  one.length === other.length &&
  one.every((stage, at) => stage === other[at] || stage.status === other[at]?.status);

/** How far along an edge is. */
function edgeState(from: StageSnapshot | undefined, to: StageSnapshot | undefined): string {
  if (to && isActive(to.status)) return "active";
  if (to?.status === "skipped") return "skipped";
  return from?.status === "completed" ? "passed" : "ahead";
}

/** What stands below the graph while no stage is chosen. */
function hint({ counts }: JobSnapshot): string {
  const words = (
    ["running", "waiting", "completed", "failed", "cancelled", "skipped", "pending"] as const
  )
    .filter((status) => counts[status] > 0)
    .map((status) => `${counts[status]} ${status}`);
  return `${counts.total} ${counts.total === 1 ? "stage" : "stages"}: ${words.join(", ")}`;
}

declare global {
  interface HTMLElementTagNameMap {
    "workflow-graph": WorkflowGraph;
  }
}
