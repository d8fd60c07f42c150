// Elements, numbers and times. Text of a run gets into the page only through `h`, as text.

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "color") element.style.setProperty("--color", value);
    else if (name in element && name !== "list" && name !== "role") element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child != null && child !== false) parent.append(child instanceof Node ? child : visible(child));
  }
}

function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
  return parent;
}

// A text of a run in an element of its own, so that its direction does not change what is around it.
const named = (text, attributes = {}) => h("bdi", { title: visible(text), ...attributes }, text);

const visible = (text) =>
  String(text).replace(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, (each) => String.fromCharCode(0x2400 + each.charCodeAt(0)))
    .replace(/\x7f/g, "\u2421");

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

// NaN and infinities are texts in JSON
const toNumber = (value) => (value === null || value === undefined ? NaN : Number(value));

function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  value = Number(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en-US");
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e7) return String(Number(value.toPrecision(digits)));
  return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
}

function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const [unit, next, size] = seconds < 3600 ? ["min", "s", 60] : seconds < 86400 ? ["h", "min", 3600] : ["d", "h", 86400];
  const rest = Math.floor((seconds % size) / { s: 1, min: 60, h: 3600 }[next]);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next}` : ""}`;
}

const two = (value) => String(value).padStart(2, "0");

function when(seconds) {
  const date = new Date(seconds * 1000);
  if (!(seconds > 0) || Number.isNaN(date.getTime())) return "–";
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

// A time on an axis whose marks are so many seconds apart
function clock(seconds, gap) {
  const date = new Date(seconds * 1000);
  const isDay = gap >= 86400 || (gap >= 3600 && !date.getHours() && !date.getMinutes());
  if (isDay) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}${gap < 60 ? `:${two(date.getSeconds())}` : ""}${gap < 1 ? (seconds % 1).toFixed(Math.min(3, Math.ceil(-Math.log10(gap)))).slice(1) : ""}`;
}

function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${Number(size.toPrecision(3))} ${units[unit]}`;
}

const counted = (count, noun) => `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;

function pattern(text) {
  try {
    return new RegExp(text, "i");
  } catch {
    return null; // not finished yet
  }
}
