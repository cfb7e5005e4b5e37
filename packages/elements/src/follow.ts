/**
 * Scrolls a view so that the first element that fits a selector is in its middle; nothing else on the
 * page moves. Again in the next frame: rows that were never in view only then get their height.
 */
export function centre(view: Element | null, selector: string): void {
  const scroll = () => {
    const row = view?.querySelector(selector);
    if (!view || !row) return;
    const [outer, inner] = [view.getBoundingClientRect(), row.getBoundingClientRect()];
    view.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
  };
  scroll();
  if (view) requestAnimationFrame(scroll);
}
