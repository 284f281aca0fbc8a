/** Create an element. Text is always set as text, never as HTML. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

export const count = (number) => number.toLocaleString("en-US");

/** 1234567 -> 1.23 M. */
export function short(number) {
  for (const [unit, factor] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= factor) return `${(number / factor).toPrecision(3)} ${unit}`;
  }
  return String(number);
}

/** Output of a row as text: 64×80×80; of several maps the last one. */
export function shapeText(shapes) {
  if (!shapes || !shapes.length) return "?";
  return shapes.at(-1).join("×") + (shapes.length > 1 ? ` +${shapes.length - 1}` : "");
}
