/** A frame is late while the page is busy, and does not come at all while it is hidden. */
const LATE_MS = 100;
const FRAME_MS = 16;

/** Calls `fn` once: in the browser's next frame, or about then where there are none. Returns what cancels it. */
export function onNextFrame(fn: () => void): () => void {
  const hasFrames =
    typeof requestAnimationFrame === "function" &&
    (typeof document === "undefined" || !document.hidden);
  const frame = hasFrames ? requestAnimationFrame(run) : undefined;
  const timer = setTimeout(run, hasFrames ? LATE_MS : FRAME_MS);

  function cancel(): void {
    if (frame !== undefined) cancelAnimationFrame(frame);
    clearTimeout(timer);
  }
  function run(): void {
    cancel();
    fn();
  }
  return cancel;
}
