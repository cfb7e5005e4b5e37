// The whole viewer: one WebSocket, five types of frames. `watch` knows the protocol, `show` the page.

const byId = (id) => document.getElementById(id);

// ── watching ─────────────────────────────────────────────────────────────────────────────────────

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;

/**
 * Shows a job until its `end`, across lost connections: the cursor says where to go on. Returns a
 * function that stops earlier.
 */
function watch(jobId) {
  let socket;
  let cursor;
  let heartbeatMs = 25_000;
  let lostInARow = 0;
  let refusal; // the last `error` frame of this connection
  let silence; // timer: not even a heartbeat came
  let pause; // timer: until the next try

  function connect() {
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("jobId", jobId);
    if (cursor) url.searchParams.set("after", cursor);
    refusal = undefined;
    socket = new WebSocket(url);
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = reconnect;
    expectMore();
  }

  function receive(frame) {
    expectMore();
    switch (frame.type) {
      case "snapshot":
        heartbeatMs = frame.heartbeatMs;
        lostInARow = 0;
        cursor = frame.cursor;
        show(frame.job);
        say("Live.");
        break;
      case "update":
        cursor = frame.cursor;
        show(frame.job);
        break;
      case "heartbeat":
        say(frame.stale ? "Live, but the server has lost its store: this may be old." : "Live.");
        break;
      case "end":
        stop();
        say("The job is over: nothing more will come.");
        break;
      case "error":
        refusal = frame;
        break;
      // What a later version sends besides is not for this page.
    }
  }

  function reconnect() {
    stop();
    if (refusal && !refusal.retryable) return say(refusal.message);
    const backoff = Math.min(FIRST_DELAY_MS * 2 ** lostInARow, LONGEST_DELAY_MS);
    const delay = refusal?.retryAfterMs ?? backoff * (0.5 + Math.random() / 2); // not all at once
    lostInARow += 1;
    say("The connection is lost: trying again …");
    pause = setTimeout(connect, delay);
  }

  /** A dead network closes nothing, but a server that lives is never silent for so long. */
  function expectMore() {
    clearTimeout(silence);
    silence = setTimeout(reconnect, 2.5 * heartbeatMs);
  }

  function stop() {
    clearTimeout(silence);
    clearTimeout(pause);
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }

  say("Connecting …");
  connect();
  return stop;
}

// ── the page ─────────────────────────────────────────────────────────────────────────────────────

/** Changes a text only if it changes: screen readers announce what is written. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const say = (text) => write(byId("connection"), text);

function show(job) {
  byId("job").hidden = false;
  write(byId("name"), job.name ?? "An inventory, waiting for its turn");
  showStatus(byId("status"), job.status, `${job.status}${took(job)}${where(job)}`);
  showPercent(byId("percent"), byId("progress"), job);
  write(byId("error"), errorText(job));
  showStages(job.stages);
  document.title = `${job.done ? job.status : `${job.progress} %`} – Inventory`;
}

/** The current stage by its name, and those that run beside it. */
function where({ done, currentStage, activeStages, stages }) {
  const current = done ? [currentStage] : activeStages;
  const names = stages.filter(({ stage }) => current.includes(stage)).map(({ name }) => name);
  return names.length > 0 ? `: ${names.join(", ")}` : "";
}

function took({ startedAt, finishedAt }) {
  if (!startedAt || !finishedAt) return "";
  return ` after ${((Date.parse(finishedAt) - Date.parse(startedAt)) / 1_000).toFixed(1)} s`;
}

function errorText({ error }) {
  if (!error) return "";
  const { code, message } = error;
  return message.startsWith(code) ? message : `${code}: ${message}`; // Node's own begin with it
}

/** The mark before the text comes from the style sheet; the text says the same. */
function showStatus(element, status, text) {
  element.dataset.status = status;
  write(element, text);
}

function showPercent(label, bar, { status, progress, indeterminate }) {
  write(label, indeterminate || status === "skipped" ? "" : `${progress} %`);
  bar.dataset.status = status;
  bar.classList.toggle("indeterminate", indeterminate);
  bar.style.setProperty("--percent", progress);
  if (bar.getAttribute("role") !== "progressbar") return;
  if (indeterminate) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", progress);
}

/** One list item for each stage, kept while the stage changes. */
const items = new Map();

function showStages(stages) {
  const wanted = stages.map((stage) => {
    const item = items.get(stage.stage) ?? newItem();
    items.set(stage.stage, item);
    const part = (name) => item.querySelector(`.${name}`);
    write(part("name"), stage.name);
    showStatus(part("status"), stage.status, stage.status);
    showPercent(part("percent"), part("bar"), stage);
    write(part("message"), stage.message ?? "");
    write(part("error"), errorText(stage));
    return item;
  });
  const list = byId("stages");
  const same = list.children.length === wanted.length;
  if (!same || wanted.some((item, at) => list.children[at] !== item)) {
    list.replaceChildren(...wanted);
  }
}

const newItem = () => byId("stage").content.cloneNode(true).firstElementChild;

// ── what people do ───────────────────────────────────────────────────────────────────────────────

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void begin(byId("path").value.trim());
});

async function begin(path) {
  const button = byId("form").querySelector("button");
  button.disabled = true;
  write(byId("problem"), "");
  try {
    const response = await fetch("/jobs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(path === "" ? {} : { path }),
    });
    const answer = await response.json();
    if (response.status === 202) location.hash = answer.jobId;
    else write(byId("problem"), answer.detail);
  } catch {
    write(byId("problem"), "The server does not answer: try again.");
  } finally {
    button.disabled = false;
  }
}

/** The job stands in the address: a reload, or another window, goes on watching it. */
let stopWatching = () => {};

function watchHash() {
  stopWatching();
  items.clear();
  byId("job").hidden = true;
  const jobId = location.hash.slice(1);
  if (jobId) stopWatching = watch(jobId);
}

addEventListener("hashchange", watchHash);
watchHash();
