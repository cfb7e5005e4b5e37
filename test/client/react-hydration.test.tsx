// @vitest-environment happy-dom
import type { MonitorClient } from "@org/workflow-monitor-client";
import { MonitorProvider } from "@org/workflow-monitor-client/react";
import { waitFor } from "@testing-library/react";
import { type ReactNode, StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { probe, show, start } from "../support/react.js";

describe("a page that a server has rendered", () => {
  /** The client, and what it was asked to watch. */
  function recorded(client: MonitorClient) {
    const watched: (string | undefined)[] = [];
    const watch: MonitorClient["watch"] = (jobId, options) => {
      watched.push(options?.after);
      return client.watch(jobId, options);
    };
    return { client: { ...client, watch }, watched };
  }

  function hydrate(html: string, app: ReactNode) {
    const root = document.createElement("div");
    root.innerHTML = html;
    const recovered = vi.fn();
    const mounted = hydrateRoot(root, app, { onRecoverableError: recovered });
    onTestFinished(() => mounted.unmount());
    return { text: () => root.textContent, recovered };
  }

  test("shows the job at once, is taken over as it is, and goes on from there", async () => {
    const { server, client } = await start();
    const initial = await client.get("a");
    const { client: spied, watched } = recorded(client);
    const { Probe, states } = probe();
    const app = (
      <StrictMode>
        <MonitorProvider client={spied}>
          <Probe initial={initial} />
        </MonitorProvider>
      </StrictMode>
    );
    const html = renderToString(app);
    expect(html).toContain("running");
    expect(watched).toEqual([]);
    await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", status: "completed" });

    states.length = 0;
    const page = hydrate(html, app);
    await waitFor(() => expect(page.text()).toBe("running 50 live"));
    expect(states[0]).toMatchObject({ job: initial, progress: 0 });
    expect(states.every(({ job }) => job !== null)).toBe(true);
    expect(new Set(watched)).toEqual(new Set([`${initial.epoch}.${initial.revision}`]));
    expect(page.recovered).not.toHaveBeenCalled();
  });

  test("without `initial`, begins with nothing on both sides", async () => {
    const { client } = await start();
    const { Probe } = probe();
    const app = (
      <MonitorProvider client={client}>
        <Probe />
      </MonitorProvider>
    );
    const html = renderToString(app);
    expect(html).toContain("nothing");
    const page = hydrate(html, app);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    expect(page.recovered).not.toHaveBeenCalled();
  });

  test("of a job that was done watches nothing, and tells of no end, until it is asked", async () => {
    const { server, client } = await start();
    await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
    const initial = await client.get("a");
    const { client: spied, watched } = recorded(client);
    const onDone = vi.fn();
    const seen = probe();
    const app = (
      <MonitorProvider client={spied}>
        <seen.Probe initial={initial} onDone={onDone} />
      </MonitorProvider>
    );
    const page = hydrate(renderToString(app), app);
    await waitFor(() => expect(page.text()).toBe("completed 100 ended"));
    expect(seen.last.isDone).toBe(true);
    expect(watched).toEqual([]);
    expect(onDone).not.toHaveBeenCalled();

    await server.monitor.publish({ type: "job", jobId: "a", status: "running", run: 2 });
    seen.last.refetch();
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    await server.monitor.publish({ type: "job", jobId: "a", status: "failed" });
    await waitFor(() => expect(page.text()).toBe("failed 0 ended"));
    expect(onDone).toHaveBeenCalledTimes(1);
    expect(page.recovered).not.toHaveBeenCalled();
  });

  test("an `initial` of another job is not shown", async () => {
    const { server, client } = await start();
    await server.monitor.publish({ type: "job", jobId: "b", status: "waiting" });
    const { Probe } = probe();
    const page = show(client, <Probe id="b" initial={await client.get("a")} />);
    expect(page.text()).toBe("nothing 0 connecting");
    await waitFor(() => expect(page.text()).toBe("waiting 0 live"));
  });
});
