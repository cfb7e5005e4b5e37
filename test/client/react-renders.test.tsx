// @vitest-environment happy-dom
import type { JobSnapshot } from "@org/workflow-monitor-client";
import { useJob } from "@org/workflow-monitor-client/react";
import { waitFor } from "@testing-library/react";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { range } from "../support/frames.js";
import { probe, show, start } from "../support/react.js";
import type { TestServer } from "../support/server.js";
import { until } from "../support/wait.js";

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
    for (const n of range(1, 1_000)) {
      server.engine.emit("job", { jobId: "a", message: `${n}` });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await until("all have come", () => updates === 1_000, 20_000);
    watch.close();
  }

  test.each(["with frames", "without"])(
    "a thousand updates in a second are at most one render a frame, %s",
    { timeout: 60_000 },
    async (how) => {
      if (how === "with frames") frames();
      else vi.stubGlobal("requestAnimationFrame", undefined);
      onTestFinished(() => void vi.unstubAllGlobals());
      const started = await start();
      const torn: string[] = [];
      /** Two components, one of which renders the other: what is shown is of one state. */
      const seen = probe(({ job }) => <Inner outer={job?.message} />);
      function Inner({ outer }: { outer: string | null | undefined }) {
        const { job } = useJob("a");
        if (job?.message !== outer) torn.push(`${outer} and ${job?.message}`);
        return job?.message;
      }
      const page = show(started.client, <seen.Probe />);
      await waitFor(() => expect(seen.last.job).not.toBeNull());
      const before = seen.states.length;
      const began = performance.now();
      await flood(started);
      await waitFor(() => expect(page.text()).toBe("1000"));
      expect(torn).toEqual([]);
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
    let isOpen = false;
    const late = probe((state) => (isOpen ? state.currentStage : state.status));
    const both = () => (
      <>
        <late.Probe />
        <note.Probe />
      </>
    );
    const page = show(client, both());
    await say(server, "one", page.text);
    server.engine.emit("stage", { jobId: "a", stage: "x", status: "completed" });
    server.engine.emit("stage", { jobId: "a", stage: "y", status: "running" });
    await say(server, "two", page.text);
    isOpen = true;
    page.rerender(both());
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
