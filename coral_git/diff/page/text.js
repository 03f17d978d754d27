// Elements and numbers. Whatever the report says reaches the page as text, here and nowhere else.

const SVG = document.getElementById("drawing").content.firstElementChild.namespaceURI;
const order = new Intl.Collator("en", { numeric: true }).compare;

/** An element with attributes and children; a child that is no node becomes text. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Terms and what is said of them. */
function pairs(facts) {
  return make("dl", {}, ...facts.flatMap(([term, said]) => [make("dt", {}, term), make("dd", {}, said)]));
}

const byId = (id) => document.getElementById(id);

/** A number in three digits; what does not exist is a dash. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return count(value);
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e5 ? value.toExponential(2) : value.toPrecision(3);
  return text.replaceAll("-", "−");
}

function count(value) {
  if (value === null) return "–";
  return value.toLocaleString("en").replaceAll(",", "\u202f").replaceAll("-", "−");
}

function percent(value) {
  if (value === null) return "–";
  const shown = value * 100;
  if (shown > 0 && shown < 0.01) return "< 0.01\u00a0%";
  return `${shown === 100 || shown === 0 ? shown : shown.toFixed(shown < 0.1 || shown > 99.9 ? 2 : 1)}\u00a0%`;
}

/** Bytes in powers of ten, as the commands print them. */
function bytes(value) {
  if (value === null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit ? value.toFixed(1) : value}\u00a0${units[unit]}`;
}

const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** What became of something that may be the same: old → new. */
function change(old, now) {
  if (old === null || old === now) return now ?? "–";
  return now === null ? old : `${old} → ${now}`;
}
