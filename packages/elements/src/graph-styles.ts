import { css } from "lit";
import { NODE_HEIGHT, NODE_WIDTH } from "./placement.js";

export const graphStyles = css`
  .tools {
    display: inline-flex;
  }

  .tool {
    min-width: 2rem;
    height: 1.75rem;
    padding: 0 0.5rem;
    border: 1px solid var(--_line);
    background: none;
    color: var(--_quiet);
    font-size: 0.8125rem;
  }

  .tool:first-child {
    border-start-start-radius: 0.5rem;
    border-end-start-radius: 0.5rem;
  }

  .tool:last-child {
    border-start-end-radius: 0.5rem;
    border-end-end-radius: 0.5rem;
  }

  .tool + .tool {
    border-inline-start: 0;
  }

  .tool:hover {
    background: var(--_track);
    color: var(--_text);
  }

  .card {
    padding-inline: 0;
  }

  .card > :not(.view) {
    margin-inline: 1.25rem;
  }

  .view {
    position: relative;
    max-height: var(--workflow-max-height, 30rem);
    overflow: auto;
    overscroll-behavior-x: contain;
    border-block: 1px solid var(--_line);
    background: var(--_raised);
    scrollbar-width: thin;
  }

  .view.empty {
    display: grid;
    min-height: 8rem;
    place-items: center;
  }

  .sheet {
    width: calc(var(--width) * var(--zoom));
    height: calc(var(--height) * var(--zoom));
    margin-inline: auto;
    overflow: hidden;
  }

  .canvas {
    position: relative;
    width: var(--width);
    height: var(--height);
    transform: scale(var(--zoom));
    transform-origin: 0 0;
  }

  .edges {
    position: absolute;
    inset: 0;
  }

  .edge {
    fill: none;
    stroke: var(--_edge);
    stroke-width: 1.5;
    stroke-linejoin: round;
    stroke-linecap: round;
    --_edge: var(--workflow-edge, light-dark(#b6bfc9, #444c56));
  }

  .edge[data-state="passed"] {
    --_edge: var(--_quiet);
  }

  .edge[data-state="active"] {
    --_edge: var(--_accent);
    stroke-width: 2;
  }

  .edge[data-state="skipped"],
  .edge.back {
    stroke-dasharray: 4 4;
  }

  .node {
    position: absolute;
    display: grid;
    grid-template: "mark name" auto "mark facts" auto / auto 1fr;
    gap: 0 0.625rem;
    align-content: center;
    width: ${NODE_WIDTH}px;
    height: ${NODE_HEIGHT}px;
    padding: 0 0.75rem;
    overflow: hidden;
    border: 1.5px solid var(--_line);
    border-radius: 0.625rem;
    background: var(--_card);
    text-align: start;
    transform: translate(var(--x), var(--y));
    transition: border-color 0.2s;
    contain: strict; /* a change inside lays out nothing else */
    content-visibility: auto;
  }

  .node > .mark {
    grid-area: mark;
    align-self: center;
    translate: none;
  }

  .node > .name {
    grid-area: name;
    overflow: hidden;
    font-weight: 600;
    font-size: 0.875rem;
    line-height: 1.35;
    text-overflow: ellipsis;
    white-space: nowrap;
  }

  .node > .facts {
    grid-area: facts;
    overflow: hidden;
    color: var(--_quiet);
    font-size: 0.75rem;
    line-height: 1.4;
    text-overflow: ellipsis;
    white-space: nowrap;
  }

  .node > .done {
    position: absolute;
    inset: auto 0 0;
    height: 3px;
    background: var(--_status);
    transform: scaleX(calc(var(--percent) / 100));
    transform-origin: 0 0;
  }

  .node:hover {
    border-color: var(--_quiet);
  }

  .node[data-status="pending"] {
    background: none;
  }

  .node[data-status="pending"] > .name,
  .node[data-status="skipped"] > .name {
    color: var(--_quiet);
    font-weight: 500;
  }

  .node[data-status="skipped"],
  .node[data-status="cancelled"] {
    border-style: dashed;
    border-color: color-mix(in srgb, var(--_quiet) 55%, var(--_line));
    background: none;
  }

  .node[data-status="running"],
  .node[data-status="waiting"],
  .node[data-status="failed"] {
    border-color: var(--_status);
  }

  .node[data-status="completed"] {
    border-color: color-mix(in srgb, var(--_good) 45%, var(--_line));
  }

  .node[aria-current] {
    border-color: var(--_status);
    background: color-mix(in srgb, var(--_status) 9%, var(--_card));
    box-shadow: 0 0 0 3px color-mix(in srgb, var(--_status) 22%, transparent);
  }

  .details {
    display: grid;
    gap: 0.3rem;
    align-content: start;
    min-height: 3rem;
  }

  .attempts {
    display: flex;
    flex-wrap: wrap;
    gap: 0.1rem 1rem;
    padding: 0;
    list-style: none;
  }

  @container (width < 30rem) {
    .card > :not(.view) {
      margin-inline: 1rem;
    }
  }

  @media (forced-colors: active) {
    .node[aria-current] {
      outline: 3px solid Highlight;
    }

    .edge {
      --_edge: CanvasText;
    }
  }
`;
