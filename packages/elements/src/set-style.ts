import { noChange } from "lit";
import { Directive, directive, type ElementPart } from "lit/directive.js";

type Properties = Readonly<Record<string, string | number>>;

class SetStyle extends Directive {
  readonly #set = new Map<string, string>();

  render(_properties: Properties): unknown {
    return noChange;
  }

  override update({ element }: ElementPart, [properties]: [Properties]): unknown {
    const { style } = element as HTMLElement | SVGElement;
    for (const [name, value] of Object.entries(properties)) {
      const text = String(value);
      if (this.#set.get(name) === text) continue;
      this.#set.set(name, text);
      style.setProperty(name, text);
    }
    return noChange;
  }
}

/**
 * Sets CSS properties of an element: `<div ${setStyle({ "--percent": 60 })}>`. Unlike lit's
 * `styleMap`, which writes a `style` attribute first, it does so through the CSSOM alone, which a
 * strict `style-src` allows. The names must stay the same.
 */
export const setStyle = directive(SetStyle);
