// @vitest-environment happy-dom
import { type ClientErrorCode, MonitorClientError } from "@org/workflow-monitor-client";
import { MonitorProvider, type UseJobsResult, useJobs } from "@org/workflow-monitor-client/react";
import { fireEvent, render, waitFor } from "@testing-library/react";
import { StrictMode } from "react";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { show, start } from "../support/react.js";

describe("useJobs", () => {
  /** A component that lists, and the client's `list`. */
  async function list() {
    const { server, client } = await start();
    const asked = vi.spyOn(client, "list");
    const states: UseJobsResult[] = [];
    function List({
      status,
      limit = 50,
      refreshMs = 5,
    }: {
      status?: "running";
      limit?: number;
      refreshMs?: number;
    }) {
      const state = useJobs({ limit, ...(status && { status }) }, { refreshMs });
      states.push(state);
      if (state.error) return <p>{state.error.code}</p>;
      if (state.isLoading) return <p>loading</p>;
      return (
        <button type="button" onClick={state.refetch}>
          {state.jobs.map(({ jobId }) => jobId).join(" ")}
        </button>
      );
    }
    return { server, client, asked, states, List };
  }

  test("lists jobs, newest first, and those that come later", async () => {
    const { server, client, states, List } = await list();
    const page = show(client, <List />);
    expect(page.text()).toBe("loading");
    await waitFor(() => expect(page.text()).toBe("a"));
    await server.monitor.publish({ type: "job", jobId: "b", status: "waiting" });
    await waitFor(() => expect(page.text()?.split(" ").sort()).toEqual(["a", "b"]));
    page.rerender(<List status="running" />);
    expect(page.text()).toBe("loading");
    await waitFor(() => expect(page.text()).toBe("a"));
    page.rerender(<List limit={1} />);
    await waitFor(() => expect(states.at(-1)?.next).toEqual(expect.any(String)));
  });

  test("refetch reads at once", async () => {
    const { server, client, List } = await list();
    const page = render(
      <MonitorProvider client={client}>
        <List refreshMs={3_600_000} />
      </MonitorProvider>,
    );
    await waitFor(() => expect(page.container.textContent).toBe("a"));
    await server.monitor.publish({ type: "job", jobId: "b", status: "waiting" });
    fireEvent.click(page.getByRole("button"));
    await waitFor(() => expect(page.container.textContent).toContain("b"));
  });

  test("a hidden page does not ask; one that is looked at again does", async () => {
    const { client, asked, List } = await list();
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    onTestFinished(() => hidden.mockRestore());
    const page = show(client, <List />);
    expect(page.text()).toBe("loading");
    expect(asked).not.toHaveBeenCalled();
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event("visibilitychange"));
    await waitFor(() => expect(page.text()).toBe("a"));
  });

  test("an error is shown; one that may pass is tried again, another is not", async () => {
    const { client, asked, List, states } = await list();
    const page = show(client, <List />);
    await waitFor(() => expect(page.text()).toBe("a"));
    const error = (code: ClientErrorCode, retryable: boolean) =>
      new MonitorClientError(code, "No.", { retryable });
    asked.mockRejectedValueOnce(error("unavailable", true));
    await waitFor(() =>
      expect(states.some(({ error }) => error?.code === "unavailable")).toBe(true),
    );
    expect(states.find(({ error }) => error)?.jobs).toHaveLength(1);
    await waitFor(() => expect(page.text()).toBe("a"));
    asked.mockRejectedValueOnce(error("unauthorized", false));
    await waitFor(() => expect(page.text()).toBe("unauthorized"));
    const before = asked.mock.calls.length;
    vi.useFakeTimers({ toFake: ["setTimeout", "Date"] });
    vi.advanceTimersByTime(60_000);
    vi.useRealTimers();
    expect(asked.mock.calls.length).toBe(before);
    states.at(-1)?.refetch();
    await waitFor(() => expect(page.text()).toBe("a"));
  });

  test("stops with its component", async () => {
    const { client, asked, List } = await list();
    const page = show(
      client,
      <StrictMode>
        <List refreshMs={3_600_000} />
      </StrictMode>,
    );
    await waitFor(() => expect(page.text()).toBe("a"));
    page.unmount();
    expect(asked.mock.calls.every(([, options]) => options?.signal?.aborted)).toBe(true);
  });
});
