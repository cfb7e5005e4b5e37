/** Scrolls a view so that the first element that fits a selector is in its middle. Nothing else on the page moves. */
export function centre(view: Element | null, selector: string): void {
  const row = view?.querySelector(selector);
  if (!view || !row) return;
  const [outer, inner] = [view.getBoundingClientRect(), row.getBoundingClientRect()];
  view.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
}
