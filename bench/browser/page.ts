import { createMonitorClient, type JobSnapshot } from "@org/workflow-monitor-client";
import "@org/workflow-monitor-elements";
import type { FirstPaint, PageSubject, Seen } from "./subjects.js";

/** The page that is measured: each subject puts on it what shows the job, and says what it has. */

/** What a subject has put on the page. */
interface Watching {
  /** How many stages each of its views shows. */
  shown(): number[];
  /** Of what came, and the oldest of what is shown. */
  revisions(): number[];
  messages(): number;
  /** How often each of its views has shown something new. */
  shows(): number[];
  /** Something that goes on for a while after the first state is done. */
  settled(): boolean;
}

type Tag = "workflow-job" | "workflow-graph" | "workflow-timeline";
/** `came` is called at once with each state that comes. */
type Put = (jobId: string, came: (job: JobSnapshot) => void) => Watching;

const pages: Record<PageSubject, Put> = {
  client: elements(),
  job: elements("workflow-job"),
  graph: elements("workflow-graph"),
  timeline: elements("workflow-timeline"),
  all: elements("workflow-job", "workflow-graph", "workflow-timeline"),
  "by hand": byHand,
};

/** A listener of the client's, which is all there is in a page without a view; beside it, the elements. */
function elements(...tags: readonly Tag[]): Put {
  return (jobId, came) => {
    const client = createMonitorClient({ url: location.origin });
    const watch = client.watch(jobId);
    let messages = 0;
    watch.on("change", (job) => {
      messages += 1;
      came(job);
    });
    const shows = tags.map(() => 0);
    const views = tags.map((tag, at) => {
      const element = document.createElement(tag);
      Object.assign(element, { client, jobId });
      element.addEventListener("workflow-change", () => {
        shows[at]! += 1;
      });
      document.body.append(element);
      return element;
    });
    const count = (selector: string) =>
      views.map(({ shadowRoot }) => shadowRoot?.querySelectorAll(selector).length ?? 0);
    return {
      shown: () => count(".stage, .node, .row"),
      revisions: () => [watch, ...views].map(({ snapshot }) => snapshot?.revision ?? 0),
      messages: () => messages,
      shows: () => shows,
      settled: () => !tags.includes("workflow-graph") || count("[data-laid-out]").includes(1),
    };
  };
}

/** What people write by hand: a socket, a table, and every row written at each frame. */
function byHand(jobId: string, came: (job: JobSnapshot) => void): Watching {
  const table = document.body.appendChild(document.createElement("table"));
  const rows: HTMLTableRowElement[] = [];
  let revision = 0;
  let messages = 0;

  function write(row: number, ...texts: string[]): void {
    rows[row] ??= table.insertRow();
    for (const [at, text] of texts.entries()) {
      const cell = rows[row].cells[at] ?? rows[row].insertCell();
      cell.textContent = text;
    }
  }

  const socket = new WebSocket(
    `ws://${location.host}/ws?jobId=${jobId}&mode=full`,
    "workflow-monitor.v1",
  );
  socket.onmessage = ({ data }) => {
    const { job } = JSON.parse(data) as { job?: JobSnapshot };
    if (!job) return;
    came(job);
    write(0, job.name ?? jobId, job.status, `${job.progress} %`);
    for (const [at, { name, status, progress }] of job.stages.entries()) {
      write(at + 1, name, status, `${progress} %`);
    }
    revision = job.revision;
    messages += 1;
  };
  return {
    shown: () => [table.rows.length - 1],
    revisions: () => [revision],
    messages: () => messages,
    shows: () => [messages],
    settled: () => true,
  };
}

let watching: Watching | undefined;
let longest = 0;

new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
}).observe({ type: "longtask", buffered: true });

/** Resolves when the first state stands in the DOM. */
function begin(subject: PageSubject, jobId: string): Promise<FirstPaint> {
  return new Promise((resolve) => {
    let begun = false;
    // In the task in which the state comes, and before any view asks for a frame: what a view draws in a frame, this one
    // sees in the next.
    watching = pages[subject](jobId, ({ stages }) => {
      if (begun) return;
      begun = true;
      const since = performance.now();
      let frames = 0;
      const look = () => {
        frames += 1;
        const isThere = watching?.shown().every((count) => count === stages.length);
        if (isThere) resolve({ frames, ms: performance.now() - since });
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    });
  });
}

/** What has come and was shown until now. */
function seen(): Seen {
  const { revisions, messages, shows, settled } = watching!;
  const all = revisions();
  return {
    at: performance.now(),
    revision: all[0]!,
    oldest: Math.min(...all),
    messages: messages(),
    shows: Math.min(messages(), ...shows()),
    longest,
    settled: settled(),
  };
}

/** Forgets the longest task so far. */
function forget(): void {
  longest = 0;
}

Object.assign(globalThis, { bench: { begin, seen, forget } });
