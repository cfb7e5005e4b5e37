// @vitest-environment happy-dom
import type { JobSnapshot } from "@org/workflow-monitor-client";
import { render, waitFor } from "@testing-library/react";
import { StrictMode } from "react";
import { describe, expect, test, vi } from "vitest";
import { startClient } from "../support/client.js";
import { complaints, fetchAnywhere, probe, show, start } from "../support/react.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";

describe("useJob", () => {
  test("shows nothing, then the job, each change, and the end", async () => {
    const { server, client } = await start();
    const { Probe } = probe();
    const page = show(client, <Probe />);
    expect(page.text()).toBe("nothing 0 connecting");
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    await waitFor(() => expect(page.text()).toBe("running 50 live"));
    server.engine.emit("stage", { jobId: "a", stage: "y", status: "completed" });
    await waitFor(() => expect(page.text()).toBe("completed 100 ended"));
  });

  test("has the stages, the current one, and whether the job is over", async () => {
    const { server, client } = await start();
    const { Probe } = probe(({ stages, currentStage, isDone, error }) =>
      JSON.stringify([stages.map(({ stage }) => stage), currentStage, isDone, error]),
    );
    const page = show(client, <Probe />);
    expect(page.text()).toBe("[[],null,false,null]");
    await waitFor(() => expect(page.text()).toBe('[["x","y"],"x",false,null]'));
    server.engine.emit("job", { jobId: "a", status: "failed" });
    await waitFor(() => expect(page.text()).toContain("true,null]"));
  });

  test("in StrictMode, joins once, tells of the end once, and leaves", async () => {
    const { server, client, joins, leaves } = await start();
    const { Probe } = probe();
    const onDone = vi.fn();
    const page = show(
      client,
      <StrictMode>
        <Probe onDone={onDone} />
      </StrictMode>,
    );
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    server.engine.emit("job", { jobId: "a", status: "completed" });
    await waitFor(() => expect(page.text()).toBe("completed 100 ended"));
    page.unmount();
    await until("it has left", () => leaves.length > 0);
    expect(onDone).toHaveBeenCalledTimes(1);
    expect(joins).toEqual(["a"]);
  });

  test("leaves when its component does", async () => {
    const { client, leaves } = await start();
    const { Probe } = probe();
    const page = show(client, <Probe />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    page.unmount();
    await until("it has left", () => leaves.length === 1);
  });

  test("may leave while it connects", async () => {
    let asked = 0;
    let release = () => {};
    const permission = new Promise<boolean>((resolve) => {
      release = () => resolve(true);
    });
    const server = await startServer({
      authorize() {
        asked += 1;
        return permission;
      },
    });
    await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
    const { Probe, states } = probe();
    const page = show(startClient(server.port), <Probe />);
    await until("it is asked for", () => asked > 0);
    page.unmount();
    release();
    await until("nobody is there", () => server.monitor.stats().viewers.ws === 0);
    expect(states.every(({ job }) => job === null)).toBe(true);
  });

  test("another jobId is another job, and nothing of the one before", async () => {
    const { server, client, leaves } = await start();
    await server.monitor.publish({ type: "job", jobId: "b", status: "waiting" });
    const seen = probe(({ job }) => job?.jobId ?? "nothing");
    const page = show(client, <seen.Probe id="a" />);
    await waitFor(() => expect(page.text()).toBe("a"));
    page.rerender(<seen.Probe id="b" />);
    expect(page.text()).toBe("nothing");
    await waitFor(() => expect(page.text()).toBe("b"));
    await until("a was left", () => leaves.includes("a"));
    page.rerender(<seen.Probe id={null} />);
    expect(page.text()).toBe("nothing");
    expect(seen.last.connection).toBeNull();
    await until("b was left", () => leaves.includes("b"));
  });

  test("that is not enabled watches nothing, and keeps what it knew", async () => {
    const { server, client, joins, leaves } = await start();
    const { Probe } = probe();
    const page = show(client, <Probe enabled={false} />);
    expect(page.text()).toBe("nothing 0 undefined");
    page.rerender(<Probe />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    expect(joins).toEqual(["a"]);
    page.rerender(<Probe enabled={false} />);
    expect(page.text()).toBe("running 0 undefined");
    await until("it has left", () => leaves.length === 1);
    await server.monitor.publish({ type: "stage", jobId: "a", stage: "x", status: "completed" });
    page.rerender(<Probe />);
    expect(page.text()).toBe("running 0 connecting");
    await waitFor(() => expect(page.text()).toBe("running 50 live"));
  });

  test("shares what another component knows, from its first render on", async () => {
    const { server, client, joins, leaves } = await start();
    const [one, other] = [probe(), probe()];
    const page = show(client, <one.Probe />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    page.rerender(
      <>
        <one.Probe key="moved" />
        <other.Probe />
      </>,
    );
    expect(other.states[0]?.status).toBe("running");
    expect(one.states.at(-1)?.job).toBe(other.states[0]?.job);
    page.rerender(<other.Probe key="another" />);
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    await waitFor(() => expect(page.text()).toBe("running 50 live"));
    expect(new Set(other.states.map(({ connection }) => connection?.state))).toEqual(
      new Set(["live"]),
    );
    page.unmount();
    await until("it has left", () => leaves.length > 0);
    expect(joins).toEqual(["a"]);
  });

  test("without a provider throws a sentence", () => {
    complaints.mockImplementation(() => {});
    const { Probe } = probe();
    expect(() => render(<Probe />)).toThrow(/no <MonitorProvider client=.+> above this component/);
    complaints.mockReset();
  });
});

describe("onDone", () => {
  test("is called once, with the last state, after it is shown; the newest callback", async () => {
    const { server, client } = await start();
    const { Probe } = probe();
    const [first, second] = [vi.fn(), vi.fn((job: JobSnapshot) => `${job.status} ${page.text()}`)];
    const page = show(client, <Probe onDone={first} />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
    page.rerender(<Probe onDone={second} />);
    server.engine.emit("job", { jobId: "a", status: "cancelled" });
    await waitFor(() => expect(second).toHaveBeenCalled());
    page.rerender(<Probe onDone={second} />);
    expect(second.mock.results).toEqual([{ type: "return", value: "cancelled cancelled 0 ended" }]);
    expect(first).not.toHaveBeenCalled();
  });

  test("is called for a job that turns out to be over, in each component that watches it", async () => {
    const { server, client } = await start();
    await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
    const { Probe } = probe();
    const [one, other] = [vi.fn(), vi.fn()];
    const page = show(client, <Probe onDone={one} />);
    await waitFor(() => expect(one).toHaveBeenCalledTimes(1));
    page.rerender(
      <>
        <Probe onDone={one} />
        <Probe onDone={other} />
      </>,
    );
    await waitFor(() => expect(other).toHaveBeenCalledTimes(1));
  });
});

describe("refetch", () => {
  test("watches again what has failed", async () => {
    let allowed = false;
    const { client } = await start({
      transports: ["poll"],
      fetch: async (url, init) =>
        allowed ? fetchAnywhere(url, init) : new Response("", { status: 401 }),
    });
    const seen = probe(({ status, error }) => error?.code ?? status);
    const page = show(client, <seen.Probe />);
    await waitFor(() => expect(page.text()).toBe("unauthorized"));
    expect(seen.last.error?.message).toMatch(/check .*`token`/);
    expect(seen.last.connection?.state).toBe("failed");
    const { refetch } = seen.last;
    allowed = true;
    refetch();
    await waitFor(() => expect(page.text()).toBe("running"));
    expect(seen.last.error).toBeNull();
    expect(seen.last.refetch).toBe(refetch);
  });

  test("reads past a connection that does not come about", async () => {
    const { client } = await start({ paths: { ws: "/nowhere" }, transports: ["ws"] });
    const seen = probe(({ job, connection }) => job?.status ?? connection?.state);
    const page = show(client, <seen.Probe />);
    await waitFor(() => expect(page.text()).toBe("reconnecting"));
    seen.last.refetch();
    await waitFor(() => expect(page.text()).toBe("running"));
  });

  test("by one component is for all that show the job", async () => {
    const { server, client } = await start();
    await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
    const initial = await client.get("a");
    const [one, other] = [probe(), probe()];
    const [onDone, onOtherDone] = [vi.fn(), vi.fn()];
    const page = show(
      client,
      <StrictMode>
        <one.Probe onDone={onDone} /> <other.Probe onDone={onOtherDone} initial={initial} />
      </StrictMode>,
    );
    await waitFor(() => expect(page.text()).toBe("completed 100 ended completed 100 ended"));
    expect([onDone, onOtherDone].map(({ mock }) => mock.calls.length)).toEqual([1, 0]);

    await server.monitor.publish({ type: "job", jobId: "a", status: "running", run: 2 });
    other.last.refetch();
    await waitFor(() => expect(page.text()).toBe("running 0 live running 0 live"));
    await server.monitor.publish({ type: "job", jobId: "a", status: "failed" });
    await waitFor(() => expect(page.text()).toBe("failed 0 ended failed 0 ended"));
    expect([onDone, onOtherDone].map(({ mock }) => mock.calls.length)).toEqual([2, 1]);
  });

  test("does nothing while nothing is watched", async () => {
    const { client, joins } = await start();
    const seen = probe();
    const page = show(client, <seen.Probe enabled={false} />);
    seen.last.refetch();
    page.unmount();
    seen.last.refetch();
    expect(joins).toEqual([]);
  });

  test("after the client was closed is an error again", async () => {
    const { client } = await start();
    const seen = probe(({ error }) => error?.code);
    const page = show(client, <seen.Probe />);
    client.close();
    await waitFor(() => expect(page.text()).toBe("closed"));
    seen.last.refetch();
    await waitFor(() => expect(page.text()).toBe("closed"));
  });
});
