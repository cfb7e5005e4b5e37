import type { Connection } from "@org/workflow-monitor-client";
import { css, html, nothing, type TemplateResult } from "lit";
import { connectionText } from "./format.js";

export const connectionStyles = css`
  .chip {
    display: inline-flex;
    align-items: center;
    gap: 0.4em;
    padding: 0.1em 0.65em;
    border: 1px solid var(--_line);
    border-radius: 1rem;
    color: var(--_quiet);
    font-size: 0.8125rem;
    white-space: nowrap;
  }

  .chip::before {
    width: 0.5em;
    height: 0.5em;
    border: 1.5px solid currentColor;
    border-radius: 50%;
    content: "";
  }

  .chip[data-state="live"] {
    color: var(--_good);
  }

  .chip[data-state="live"]::before,
  .chip[data-state="polling"]::before {
    background: currentColor;
  }

  .chip[data-state="reconnecting"],
  .chip[data-state="offline"],
  .chip[data-stale] {
    color: var(--_waiting);
  }

  .chip[data-state="failed"] {
    color: var(--_bad);
  }

  .chip[data-state="live"]:not([data-stale])::before {
    animation: breathe 2.4s ease-in-out infinite;
  }

  @keyframes breathe {
    50% {
      opacity: 0.35;
    }
  }

  @media (prefers-reduced-motion: reduce) {
    .chip::before {
      animation: none !important;
    }
  }
`;

/** How the job is connected, as a chip; nothing when it is not. */
export const connectionView = (connection: Connection | null): TemplateResult | typeof nothing =>
  connection
    ? html`<span
        class="chip"
        part="connection"
        data-state=${connection.state}
        ?data-stale=${connection.stale}
        title=${connection.cause?.message ?? nothing}
      >${connectionText(connection, Date.now())}</span>`
    : nothing;
