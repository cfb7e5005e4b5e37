// @vitest-environment happy-dom
// @vitest-environment-options { "settings": { "fetch": { "disableSameOriginPolicy": true } } }
import {
  type ClientErrorCode,
  type JobSnapshot,
  type MonitorClient,
  MonitorClientError,
} from "@org/workflow-monitor-client";
import {
  MonitorProvider,
  type UseJobOptions,
  type UseJobResult,
  type UseJobsResult,
  useJob,
  useJobs,
} from "@org/workflow-monitor-client/react";
import { cleanup, fireEvent, render, waitFor } from "@testing-library/react";
import { type ReactNode, StrictMode, version } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { startClient } from "../support/client.js";
import { range } from "../support/frames.js";
import { startServer, type TestServer } from "../support/server.js";
import { until } from "../support/wait.js";

const complaints = vi.spyOn(console, "error");

beforeEach(() => void complaints.mockReset());

afterEach(() => {
  cleanup();
  expect(complaints.mock.calls).toEqual([]);
});

test("these tests run on the React that they are meant to", () => {
  expect(version.split(".")[0]).toBe(process.env.REACT);
});

/** A server with a running job `a`, and a client of it. */
async function start(clientOptions: Parameters<typeof startClient>[1] = {}) {
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
  const client = startClient(server.port, clientOptions);
  return { server, client, joins, leaves };
}

/** A component that keeps what it was shown, and renders what `show` makes of it. */
function probe<T = JobSnapshot>(
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

function show(client: MonitorClient, children: ReactNode) {
  const wrap = (ui: ReactNode) => <MonitorProvider client={client}>{ui}</MonitorProvider>;
  const { container, rerender, unmount } = render(wrap(children));
  return {
    text: () => container.textContent,
    rerender: (ui: ReactNode) => rerender(wrap(ui)),
    unmount,
  };
}

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
    const { client, joins, leaves } = await start();
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
    expect(other.last.status).toBe("running");
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

describe("when to render", () => {
  /** As a browser: 60 frames a second. */
  function frames() {
    vi.stubGlobal("requestAnimationFrame", (fn: () => void) => setTimeout(fn, 16));
    vi.stubGlobal("cancelAnimationFrame", clearTimeout);
    onTestFinished(() => void vi.unstubAllGlobals());
  }

  /** A thousand updates in a second, as far as the machine can; resolves when the client has them. */
  async function flood({ server, client }: Awaited<ReturnType<typeof start>>) {
    const watch = client.watch("a");
    let updates = -1; // the first is the state before
    watch.on("change", () => {
      updates += 1;
    });
    await until("it is shown", () => watch.snapshot !== null);
    for (const n of range(1, 100)) {
      for (const m of range(1, 10)) server.engine.emit("job", { jobId: "a", message: `${n}.${m}` });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await until("all have come", () => updates === 1_000);
    watch.close();
  }

  test.each(["with frames", "without"])(
    "a thousand updates in a second are at most one render a frame, %s",
    async (how) => {
      if (how === "with frames") frames();
      else vi.stubGlobal("requestAnimationFrame", undefined);
      onTestFinished(() => void vi.unstubAllGlobals());
      const started = await start();
      const seen = probe(({ job }) => job?.message);
      const page = show(started.client, <seen.Probe />);
      await waitFor(() => expect(seen.last.job).not.toBeNull());
      const before = seen.states.length;
      const began = performance.now();
      await flood(started);
      await waitFor(() => expect(page.text()).toBe("100.10"));
      const renders = seen.states.length - before;
      expect(renders).toBeGreaterThan(3);
      // A timer of 16 ms may be one early.
      expect(renders).toBeLessThanOrEqual(1 + (performance.now() - began) / 15);
    },
  );

  test("a hidden page, which has no frames, goes on", async () => {
    vi.stubGlobal("requestAnimationFrame", () => 0);
    onTestFinished(() => void vi.unstubAllGlobals());
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    onTestFinished(() => hidden.mockRestore());
    const { client } = await start();
    const { Probe } = probe();
    const page = show(client, <Probe />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
  });

  test("a page that is hidden before its frame comes goes on", async () => {
    vi.stubGlobal("requestAnimationFrame", () => 0);
    onTestFinished(() => void vi.unstubAllGlobals());
    const { client } = await start();
    const { Probe } = probe();
    const page = show(client, <Probe />);
    await waitFor(() => expect(page.text()).toBe("running 0 live"));
  });

  /** Changes the job's message, and shows it in a component of its own: others had their turn then. */
  async function say(server: TestServer, text: string, message: () => string | null) {
    server.engine.emit("job", { jobId: "a", message: text });
    await waitFor(() => expect(message()).toContain(text));
  }

  test("only a field that is read is a reason", async () => {
    const { server, client } = await start();
    const bar = probe(({ progress }) => progress);
    const note = probe(({ job }) => job?.message ?? null);
    const idle = probe(() => null);
    const page = show(
      client,
      <>
        <bar.Probe />
        <note.Probe />
        <idle.Probe />
      </>,
    );
    await say(server, "one", page.text);
    const before = bar.states.length;
    await say(server, "two", page.text);
    await say(server, "three", page.text);
    expect(bar.states.length).toBe(before);
    expect(idle.states.length).toBe(1);
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    await waitFor(() => expect(page.text()).toContain("50"));
    expect(bar.states.length).toBe(before + 1);
  });

  test("a field that was not read before is as new as the others", async () => {
    const { server, client } = await start();
    const note = probe(({ job }) => job?.message ?? null);
    const late = probe<string>(({ job, currentStage }) => (job === "x" ? currentStage : "closed"));
    const open = (is: boolean) => (
      <>
        <late.Probe select={() => (is ? "x" : "")} />
        <note.Probe />
      </>
    );
    const page = show(client, open(false));
    await say(server, "one", page.text);
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    server.engine.emit("stage", { jobId: "a", stage: "y", status: "running" });
    await say(server, "two", page.text);
    page.rerender(open(true));
    expect(page.text()).toBe("ytwo");
  });

  test.each([
    ["a value", (job: JobSnapshot) => job.stages[0]?.status],
    ["an array", (job: JobSnapshot) => job.stages.filter(({ status }) => status === "running")],
    ["an object", ({ progress, currentStage }: JobSnapshot) => ({ progress, currentStage })],
  ])("with `select`, only another selection is a reason: %s", async (_, select) => {
    const { server, client } = await start();
    const chosen = probe<unknown>(({ job }) => typeof job);
    const note = probe(({ job }) => job?.message ?? null);
    const page = show(
      client,
      <>
        <chosen.Probe select={(job) => select(job)} />
        <note.Probe />
      </>,
    );
    await say(server, "one", page.text);
    const [before, { job }] = [chosen.states.length, chosen.last];
    await say(server, "two", page.text);
    expect(chosen.states.length).toBe(before);
    page.rerender(
      <>
        <chosen.Probe select={(job) => select(job)} />
        <note.Probe />
      </>,
    );
    expect(chosen.last.job).toBe(job);
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    await waitFor(() => expect(chosen.last.job).not.toBe(job));
  });
});

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
      fetch: async (url, init) => (allowed ? fetch(url, init) : new Response("", { status: 401 })),
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
