/** Called once a second. */
type Tick = () => void;

const ticks = new Set<Tick>();
let timer: ReturnType<typeof setInterval> | undefined;

/** One timer for everything that shows time; none while nothing does, or the page is hidden. */
function adjust(): void {
  const wanted = ticks.size > 0 && !document.hidden;
  if (!wanted) {
    clearInterval(timer);
    timer = undefined;
  } else timer ??= setInterval(() => tickAll(), 1_000);
}

function tickAll(): void {
  for (const tick of [...ticks]) tick();
}

function onVisibility(): void {
  adjust();
  if (!document.hidden) tickAll();
}

/** Calls back once a second while the page is visible. Returns a function that ends it. */
export function everySecond(tick: Tick): () => void {
  if (ticks.size === 0) document.addEventListener("visibilitychange", onVisibility);
  ticks.add(tick);
  adjust();
  return () => {
    ticks.delete(tick);
    if (ticks.size === 0) document.removeEventListener("visibilitychange", onVisibility);
    adjust();
  };
}
