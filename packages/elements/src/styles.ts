import { css } from "lit";

/**
 * The palette, which pages may set from outside, and what the elements share. Light or dark follows
 * the `color-scheme` of the page.
 */
export const shared = css`
  :host {
    --_text: var(--workflow-text, light-dark(#1b1f24, #e6edf3));
    --_quiet: var(--workflow-quiet, light-dark(#57606a, #9aa5b1));
    --_card: var(--workflow-card, light-dark(#ffffff, #161b22));
    --_raised: var(--workflow-raised, light-dark(#f6f8fa, #11161d));
    --_line: var(--workflow-line, light-dark(#d0d7de, #30363d));
    --_track: var(--workflow-track, light-dark(#e4e8ec, #2a313a));
    --_accent: var(--workflow-accent, light-dark(#0a5fc2, #6cb0ff));
    --_good: var(--workflow-good, light-dark(#14753a, #56d381));
    --_bad: var(--workflow-bad, light-dark(#b3261e, #ff8f87));
    --_waiting: var(--workflow-waiting, light-dark(#8a5a00, #e3b341));
    --_radius: var(--workflow-radius, 0.75rem);
    --_on-bar: light-dark(#ffffff, #0d1117);
    display: block;
    container-type: inline-size;
    color: var(--_text);
    font: var(--workflow-font, 1rem / 1.5 system-ui, sans-serif);
    font-variant-numeric: tabular-nums;
    text-align: start;
  }

  :host([hidden]) {
    display: none;
  }

  * {
    box-sizing: border-box;
    margin: 0;
  }

  .card {
    display: grid;
    gap: 0.875rem;
    padding: 1.25rem;
    border: 1px solid var(--_line);
    border-radius: var(--_radius);
    background: var(--_card);
  }

  @container (width < 30rem) {
    .card {
      padding: 1rem;
    }
  }

  .line {
    display: flex;
    flex-wrap: wrap;
    align-items: baseline;
    gap: 0.25rem 0.75rem;
    min-width: 0;
  }

  .end {
    margin-inline-start: auto;
  }

  .title {
    font-weight: 650;
    font-size: 1.125rem;
    line-height: 1.3;
    letter-spacing: -0.01em;
    overflow-wrap: anywhere;
  }

  .quiet,
  .message {
    color: var(--_quiet);
  }

  .small,
  .message,
  .error {
    font-size: 0.875rem;
    line-height: 1.45;
    overflow-wrap: anywhere;
  }

  .error {
    color: var(--_bad);
  }

  .error .code {
    font-weight: 600;
  }

  /* A status is a word with a shape before it; the colour only repeats that. */
  .status {
    display: inline-flex;
    align-items: baseline;
    gap: 0.375em;
    white-space: nowrap;
  }

  [data-status] {
    --_status: var(--_quiet);
  }

  [data-status="running"] {
    --_status: var(--_accent);
  }

  [data-status="waiting"] {
    --_status: var(--_waiting);
  }

  [data-status="completed"] {
    --_status: var(--_good);
  }

  [data-status="failed"] {
    --_status: var(--_bad);
  }

  .status,
  .mark {
    color: var(--_status);
  }

  .mark {
    flex: none;
    width: 1em;
    height: 1em;
    overflow: visible;
    translate: 0 0.125em;
  }

  .mark path {
    fill: none;
    stroke: currentColor;
    stroke-width: 2;
    stroke-linecap: round;
    stroke-linejoin: round;
  }

  .mark[data-status="running"] path {
    fill: currentColor;
    stroke-width: 1.5;
  }

  .bar {
    height: 0.25rem;
    overflow: hidden;
    border-radius: 1rem;
    background: var(--_track);
  }

  .bar.large {
    height: 0.5rem;
  }

  .fill {
    width: 100%;
    height: 100%;
    border-radius: inherit;
    background: var(--_status);
    transform: translateX(calc((var(--percent) - 100) * 1%));
  }

  /* Only this one: each transition makes the browser draw 15 more frames. */
  .bar.large .fill {
    transition: transform 0.25s ease-out;
  }

  .bar.indeterminate .fill {
    width: 30%;
    transform: none;
    animation: wander 1.4s ease-in-out infinite alternate;
  }

  /* What waits does not move. */
  .bar.indeterminate[data-status="waiting"] .fill {
    width: 100%;
    background: repeating-linear-gradient(135deg, var(--_status) 0 4px, transparent 4px 9px);
    animation: none;
  }

  @keyframes wander {
    to {
      transform: translateX(233.3%);
    }
  }

  button {
    color: inherit;
    font: inherit;
    cursor: pointer;
  }

  :focus-visible {
    outline: 2px solid var(--_accent);
    outline-offset: 2px;
  }

  .sr {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }

  @media (prefers-reduced-motion: reduce) {
    * {
      transition: none !important;
    }

    .bar.indeterminate .fill {
      width: 100%;
      opacity: 0.4;
      animation: none;
    }
  }

  /* Where the system chooses the colours, backgrounds are taken away: draw with its own. */
  @media (forced-colors: active) {
    .bar {
      border: 1px solid CanvasText;
    }

    .fill {
      background: Highlight;
      forced-color-adjust: none;
    }
  }
`;
