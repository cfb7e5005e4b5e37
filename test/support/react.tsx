import type { JobSnapshot, MonitorClient } from "@org/workflow-monitor-client";
import {
  MonitorProvider,
  type UseJobOptions,
  type UseJobResult,
  useJob,
} from "@org/workflow-monitor-client/react";
import { cleanup, configure, render } from "@testing-library/react";
import { type ReactNode, version } from "react";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { Fetch } from "../../packages/client/src/host.js";
import { startClient } from "./client.js";
import { httpGet } from "./http.js";
import { startServer } from "./server.js";

configure({ asyncUtilTimeout: 10_000 }); // the machine may be busy

/** What React has complained of in this test: nothing, or the test fails. */
export const complaints = vi.spyOn(console, "error");

beforeEach(() => {
  complaints.mockReset();
  expect(version.split(".")[0]).toBe(process.env.REACT);
});

afterEach(() => {
  cleanup();
  expect(complaints.mock.calls).toEqual([]);
});

/** Node's, not that of the page, which has an origin to keep to. */
export const fetchAnywhere: Fetch = async (url, { headers }) => {
  const { port, pathname, search } = new URL(url);
  const answer = await httpGet(Number(port), pathname + search, headers);
  const type = { "content-type": answer.headers["content-type"] ?? "" };
  return new Response(answer.text, { status: answer.status, headers: type });
};

/** A server with a running job `a` of two stages, and a client of it. */
export async function start(options: Parameters<typeof startClient>[1] = {}) {
  const server = await startServer();
  await server.monitor.publish({
    type: "plan",
    jobId: "a",
    stages: [{ stage: "x" }, { stage: "y" }],
  });
  await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", status: "running" });
  const joins: string[] = [];
  const leaves: string[] = [];
  server.monitor.on("join", ({ jobId }) => void joins.push(jobId));
  server.monitor.on("leave", ({ jobId }) => void leaves.push(jobId));
  const client = startClient(server.port, { fetch: fetchAnywhere, ...options });
  return { server, client, joins, leaves };
}

/** A component that keeps what it was shown, and renders what `show` makes of it. */
export function probe<T = JobSnapshot>(
  show: (state: UseJobResult<T>) => ReactNode = ({ job, status, progress, connection }) =>
    `${job === null ? "nothing" : status} ${progress} ${connection?.state}`,
) {
  const states: UseJobResult<T>[] = [];
  function Probe({ id = "a", ...options }: { id?: string | null } & UseJobOptions<T>) {
    const state = useJob(id, options);
    states.push(state);
    return <p>{show(state)}</p>;
  }
  return {
    states,
    Probe,
    get last(): UseJobResult<T> {
      const state = states.at(-1);
      if (!state) throw new Error("it was not rendered");
      return state;
    },
  };
}

export function show(client: MonitorClient, children: ReactNode) {
  const wrap = (ui: ReactNode) => <MonitorProvider client={client}>{ui}</MonitorProvider>;
  const { container, rerender, unmount } = render(wrap(children));
  return {
    text: () => container.textContent,
    rerender: (ui: ReactNode) => rerender(wrap(ui)),
    unmount,
  };
}
