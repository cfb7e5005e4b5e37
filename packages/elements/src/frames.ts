/** Rendering may take this share of the page's main thread, of all elements together. */
const SHARE = 1 / 12;
/** However long rendering takes, what is shown is not older than this. */
const LONGEST_PAUSE_MS = 1_000;

const waiting = new Set<() => void>();
let underWay = false;
let notBefore = 0;

/**
 * Renders in the next frame, or in a later one when frames have become expensive: after one that took
 * 10 ms, styles and layout included, there is none for 90 ms. Nothing happens while the page is
 * hidden. Returns a function that calls it off.
 */
export function nextFrame(render: () => void): () => void {
  waiting.add(render);
  schedule();
  return () => waiting.delete(render);
}

function schedule(): void {
  if (underWay || waiting.size === 0) return;
  underWay = true;
  const pause = notBefore - performance.now();
  if (pause <= 0) requestAnimationFrame(renderAll);
  else setTimeout(() => requestAnimationFrame(renderAll), pause);
}

function renderAll(): void {
  const start = performance.now();
  const all = [...waiting];
  waiting.clear();
  afterPaint(() => {
    const took = performance.now() - start;
    notBefore = start + Math.min(took / SHARE, LONGEST_PAUSE_MS);
    underWay = false;
    schedule();
  });
  for (const render of all) render();
}

/** Calls back in the first task after the frame that is being made. */
function afterPaint(then: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    then();
  };
  port2.postMessage(null);
}
