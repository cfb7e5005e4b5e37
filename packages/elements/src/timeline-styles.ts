import { css } from "lit";

export const timelineStyles = css`
  .card {
    --_heads: 14rem;
    --_row: 2rem;
    padding-inline: 0;
  }

  .card > :not(.view) {
    margin-inline: 1.25rem;
  }

  .view {
    max-height: var(--workflow-max-height, 30rem);
    overflow: hidden auto;
    border-block: 1px solid var(--_line);
    background: var(--_raised);
    scrollbar-width: thin;
  }

  .view.empty {
    min-height: 8rem;
  }

  .plot {
    position: relative;
    min-height: 100%;
  }

  .axis {
    position: sticky;
    top: 0;
    z-index: 2;
    height: 1.75rem;
    padding-inline: calc(var(--_heads) + 1.25rem) 1.25rem;
    border-bottom: 1px solid var(--_line);
    background: var(--_raised);
  }

  .scale {
    position: relative;
    height: 100%;
  }

  .tick {
    position: absolute;
    inset-block: 0;
    left: calc(var(--at) * 1%);
    border-inline-start: 1px solid var(--_line);
  }

  .tick .label {
    padding-inline-start: 0.35rem;
    color: var(--_quiet);
    font-size: 0.75rem;
    line-height: 1.75rem;
    white-space: nowrap;
  }

  .tick:last-child .label {
    position: absolute;
    right: 0;
    padding-inline: 0 0.35rem;
  }

  .rows {
    padding: 0.25rem 0;
    list-style: none;
  }

  .row {
    display: grid;
    grid-template-columns: var(--_heads) 1fr;
    align-items: center;
    height: var(--_row);
    padding-inline: 1.25rem;
    contain: strict; /* a change inside lays out nothing else */
    content-visibility: auto;
  }

  .row:hover,
  .row:focus-within {
    background: color-mix(in srgb, var(--_track) 55%, transparent);
  }

  .row[aria-current] {
    background: color-mix(in srgb, var(--_status) 8%, transparent);
  }

  .head {
    display: flex;
    gap: 0.5rem;
    align-items: center;
    min-width: 0;
    padding-inline-end: 1rem;
    font-size: 0.875rem;
  }

  .head > .mark {
    translate: none;
  }

  .head .name {
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
  }

  .row[aria-current] .name {
    font-weight: 650;
  }

  .row[data-status="pending"] .name,
  .row[data-status="skipped"] .name {
    color: var(--_quiet);
  }

  .duration {
    margin-inline-start: auto;
    font-size: 0.75rem;
    white-space: nowrap;
  }

  .track {
    position: relative;
    height: 1.125rem;
    background: linear-gradient(var(--_line), var(--_line)) center / 100% 1px no-repeat;
  }

  .span {
    position: absolute;
    inset-block: 0;
    left: calc(var(--from) * 1%);
    width: calc((var(--to) - var(--from)) * 1%);
    min-width: 5px;
    padding: 0;
    border: 0;
    border-radius: 0.3rem;
    background: var(--_status);
    color: var(--_on-bar);
    container-type: inline-size;
  }

  .span:focus-visible {
    z-index: 1;
    outline-offset: 1px;
  }

  .sign {
    display: none;
  }

  @container (width > 1.25rem) {
    .sign {
      display: grid;
      place-items: center start;
      height: 100%;
      padding-inline-start: 0.3rem;
    }
  }

  .sign .mark {
    width: 0.75rem;
    height: 0.75rem;
    color: inherit;
    translate: none;
  }

  .span[data-status="running"] {
    border-start-end-radius: 0;
    border-end-end-radius: 0;
  }

  .span[data-status="waiting"] {
    background: repeating-linear-gradient(
      135deg,
      var(--_status) 0 3px,
      color-mix(in srgb, var(--_status) 35%, var(--_raised)) 3px 7px
    );
  }

  .span[data-status="waiting"] .sign,
  .span[data-status="cancelled"] .sign {
    color: var(--_text);
  }

  .span[data-status="waiting"] .sign {
    width: 1.35rem;
    background: var(--_raised);
    border: 1px solid var(--_status);
    border-radius: inherit;
  }

  .span[data-status="failed"] {
    border-radius: 0.1rem;
  }

  .span[data-status="cancelled"] {
    border: 1.5px dashed var(--_status);
    background: var(--_raised);
  }

  .span.none {
    left: 0;
    width: 100%;
    border: 0;
    background: none;
    color: var(--_quiet);
    font-size: 0.75rem;
    line-height: 1.125rem;
    text-align: start;
  }

  .row:not([data-status="pending"]) > .track:has(> .none) {
    background: none;
  }

  .gap {
    position: absolute;
    top: 50%;
    left: calc(var(--from) * 1%);
    width: calc((var(--to) - var(--from)) * 1%);
    border-top: 2px dotted var(--_quiet);
    transform: translateY(-1px);
  }

  .under,
  .over {
    position: absolute;
    inset: 0 1.25rem 0 calc(var(--_heads) + 1.25rem);
    pointer-events: none;
  }

  .over {
    z-index: 3;
  }

  .under .tick {
    opacity: 0.5;
  }

  .rows {
    position: relative;
  }

  .now {
    position: absolute;
    inset-block: 0;
    left: calc(var(--at) * 1%);
    border-inline-start: 1.5px solid var(--_accent);
  }

  .now::before {
    position: sticky;
    top: 0.45rem;
    display: block;
    width: 0.5rem;
    height: 0.5rem;
    border-radius: 50%;
    background: var(--_accent);
    transform: translateX(calc(-50% - 0.75px));
    content: "";
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

  @container (width < 36rem) {
    .card > :not(.view) {
      margin-inline: 1rem;
    }

    .axis {
      padding-inline: 1rem;
    }

    .row {
      grid-template: auto auto / 1fr;
      align-content: center;
      height: 3.1rem;
      padding-inline: 1rem;
    }

    .head {
      padding-inline-end: 0;
    }

    .under,
    .over {
      inset-inline: 1rem;
    }

    .tick:nth-child(even) .label {
      display: none;
    }
  }

  @media (forced-colors: active) {
    .span:not(.none) {
      border: 2px solid CanvasText;
      background: Canvas;
      color: CanvasText;
    }

    .span[data-status="running"] {
      background: Highlight;
      color: HighlightText;
      forced-color-adjust: none;
    }

    .span[data-status="completed"] {
      background: CanvasText;
      color: Canvas;
      forced-color-adjust: none;
    }

    .span[data-status="waiting"] {
      border-style: dotted;
    }

    .span[data-status="cancelled"] {
      border-style: dashed;
    }

    .now {
      border-color: Highlight;
    }
  }
`;
