// The page: three elements watch the job that the address names; the rest is a form and a switch.
import "@org/workflow-monitor-elements";

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

async function ask<T>(method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(path, {
    method,
    ...(body && {
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  });
  const answer: T & { detail?: string } = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

// ── the job ──────────────────────────────────────────────────────────────────────────────────────

const elements = document.querySelectorAll<
  HTMLElementTagNameMap["workflow-job" | "workflow-graph" | "workflow-timeline"]
>("workflow-job, workflow-graph, workflow-timeline");

/** The job stands in the address: a reload, or another window, goes on watching it. */
function show(): void {
  const jobId = location.hash.slice(1) || null;
  byId("run").hidden = jobId === null;
  for (const element of elements) element.jobId = jobId;
  document.title = "Inventory";
}

elements[0]?.addEventListener("workflow-change", ({ detail: { done, status, progress } }) => {
  document.title = `${done ? status : `${progress} %`} – Inventory`;
});

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void begin(byId<HTMLInputElement>("path").value.trim());
});

async function begin(path: string): Promise<void> {
  const button = byId("form").querySelector("button") as HTMLButtonElement;
  button.disabled = true;
  byId("problem").textContent = "";
  try {
    const { jobId } = await ask<{ jobId: string }>("POST", "/jobs", path === "" ? {} : { path });
    location.hash = jobId;
  } catch (error) {
    byId("problem").textContent = (error as Error).message;
  } finally {
    button.disabled = false;
  }
}

// ── the line ─────────────────────────────────────────────────────────────────────────────────────

/** Without a url, the page watches where it came from, and there is no line to cut. */
interface LineState {
  url?: string;
  isUp?: boolean;
}

const lineSwitch = byId<HTMLInputElement>("line-up");

function showLine({ url, isUp = true }: LineState): void {
  byId("line").hidden = url === undefined;
  lineSwitch.checked = isUp;
  byId("line-says").textContent = isUp ? "" : "Cut: the job goes on, unseen.";
}

lineSwitch.addEventListener("change", () => {
  void ask<LineState>("PUT", "/line", { isUp: lineSwitch.checked }).then(showLine);
});

const line = await ask<LineState>("GET", "/line");
showLine(line);
for (const element of elements) element.url = line.url ?? location.origin;
addEventListener("hashchange", show);
show();
