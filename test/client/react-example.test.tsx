// @vitest-environment happy-dom
import { render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { fetchAnywhere, start } from "../support/react.js";

test("the example in the README shows the jobs of its server, to their end", async () => {
  const { server } = await start();
  const here = `http://127.0.0.1:${server.port}`;
  // The example is of a server elsewhere; it reads both when it is imported.
  vi.stubGlobal("fetch", (url: string, init: Parameters<typeof fetchAnywhere>[1]) =>
    // It reads whole answers: streams have no end to wait for.
    init.headers.accept === "text/event-stream"
      ? Promise.reject(new Error("no streams here"))
      : fetchAnywhere(url.replace("https://app.example", here), init),
  );
  vi.stubGlobal("WebSocket", undefined);
  const told = vi.spyOn(console, "log").mockReturnValue();
  const { App } = await import("../../examples/react.js");
  render(<App />);
  await screen.findByText(/^a: running/);
  await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
  await screen.findByText(/^a: completed/);
  await vi.waitFor(() => expect(told).toHaveBeenCalledExactlyOnceWith("a is completed"));
  vi.unstubAllGlobals();
});
