import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo, Socket } from "node:net";
import { allowAll, createWorkflowMonitor, type WorkflowMonitor } from "@org/workflow-monitor";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { rawUpgrade } from "../support/raw.js";
import { connect } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";

/** A server without adapters; what is attached to it is closed with it. */
async function start() {
  const server = createServer();
  const sockets: Socket[] = [];
  server.on("connection", (socket: Socket) => {
    vi.spyOn(socket, "end");
    sockets.push(socket);
  });
  const monitors: WorkflowMonitor[] = [];
  onTestFinished(async () => {
    for (const monitor of monitors) await monitor.close();
    for (const socket of sockets) socket.destroy();
    await inTime("server.close()", new Promise((resolve) => server.close(resolve)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;

  /** Each adapter has a monitor of its own, whose job says the path. */
  async function attach(path: string, from = attachWebSocket) {
    const monitor = createWorkflowMonitor({ authorize: allowAll });
    monitors.push(monitor);
    await monitor.publish({ type: "job", jobId: JOB, message: path, status: "running" });
    return from(server, { monitor, path });
  }

  /** What the job of a path says. */
  async function served(path: string): Promise<string | null> {
    const viewer = connect(`ws://127.0.0.1:${port}${path}?jobId=${JOB}`);
    return (await viewer.expect("snapshot")).job.message;
  }

  return { server, port, sockets, attach, served };
}

/** The package once more: its CommonJS build, or, on the sources, the same module again. */
async function secondCopy(): Promise<typeof import("@org/workflow-monitor-ws")> {
  if (process.env.TEST_DIST) return createRequire(import.meta.url)("@org/workflow-monitor-ws");
  vi.resetModules();
  return import("@org/workflow-monitor-ws");
}

const closed = (server: Server) =>
  inTime("server.close()", new Promise((resolve) => server.close(resolve)));

describe("several adapters on one server", () => {
  test("serve each its own path", async () => {
    const { attach, served } = await start();
    for (const path of ["/a", "/b", "/c"]) await attach(path);
    for (const path of ["/a", "/b", "/c"]) expect(await served(path)).toBe(path);
  });

  test.each(["/", "/d", "/a/", "//["])(
    "answer a path of none, %s, with 404, once",
    async (path) => {
      const { server, port, sockets, attach } = await start();
      for (const own of ["/a", "/b", "/c"]) await attach(own);
      const client = await rawUpgrade(port, path);
      expect(client.status).toBe(404);
      expect(sockets).toHaveLength(1);
      expect(sockets[0]?.end).toHaveBeenCalledTimes(1);
      await closed(server); // though the client does not close
    },
  );

  test.each([
    { at: 0, when: "before" },
    { at: 1, when: "between" },
    { at: 2, when: "after" },
  ])("leave other paths to another handler, set $when them", async ({ at }) => {
    const { server, port, sockets, attach, served } = await start();
    const seen: string[] = [];
    const other = ({ url = "" }, socket: NodeJS.WritableStream) => {
      seen.push(url);
      if (url === "/teapot") socket.end("HTTP/1.1 418 I'm a teapot\r\n\r\n");
    };
    const paths = ["/a", "/b"];
    for (const path of [...paths.slice(0, at), "other", ...paths.slice(at)]) {
      if (path === "other") server.on("upgrade", other);
      else await attach(path);
    }
    expect((await rawUpgrade(port, "/teapot")).status).toBe(418);
    const slow = rawUpgrade(port, "/later"); // one that it answers in its own time
    await until("it has it", () => seen.includes("/later"));
    expect(sockets[1]?.end).not.toHaveBeenCalled();
    sockets[1]?.end("HTTP/1.1 410 Gone\r\n\r\n");
    expect((await slow).status).toBe(410);
    for (const path of paths) expect(await served(path)).toBe(path);
  });

  test("know each other when the package is loaded twice", async () => {
    const { port, sockets, attach, served } = await start();
    await attach("/a");
    const copy = await secondCopy();
    expect(copy.attachWebSocket).not.toBe(attachWebSocket);
    await attach("/b", copy.attachWebSocket);
    expect((await rawUpgrade(port, "/c")).status).toBe(404);
    expect(sockets[0]?.end).toHaveBeenCalledTimes(1);
    for (const path of ["/a", "/b"]) expect(await served(path)).toBe(path);
    await expect(attach("/a", copy.attachWebSocket)).rejects.toThrow(/\/a/);
  });

  test("do not answer for one that was closed", async () => {
    const { port, attach, served } = await start();
    const first = await attach("/a");
    await attach("/b");
    await first.close();
    expect((await rawUpgrade(port, "/a")).status).toBe(404);
    expect(await served("/b")).toBe("/b");
  });

  test("have different paths: a second one throws until the first is closed", async () => {
    const { attach, served } = await start();
    const first = await attach("/a");
    await expect(attach("/a")).rejects.toThrow("/a");
    expect(await served("/a")).toBe("/a");
    await first.close();
    await attach("/a");
    expect(await served("/a")).toBe("/a");
  });
});
