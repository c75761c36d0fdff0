// The report's data, and helpers that make elements. Text is only ever set as text, never as markup.
const report = JSON.parse(document.getElementById("report").textContent);
const videos = report.videos || { id: [], label: [], cluster: [], split: [], seconds: [], still: [] };
const names = new Map(Object.entries(report.names || {}));

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const el = (tag, attributes, ...children) => made(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Names of videos and classes may be in any script and direction.
const name = (text, attributes) => el("bdi", attributes, text);

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const count = (number) => number.toLocaleString("en");
const counted = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value)) return count(value);
  if (size !== 0 && (size < 1e-5 || size >= 1e6)) return value.toExponential(2);
  return value.toPrecision(4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

function labelOf(row) {
  const label = videos.label[row];
  return label === null || label === undefined ? null : label;
}

function clusterName(number) {
  const given = names.get(String(number));
  return given ? `${given} (cluster ${number})` : `cluster ${number}`;
}

const sections = [];

// Register a section: its id, its title (also for the contents) and the function that draws it.
function section(key, title, draw) {
  sections.push({ key, title, draw });
}

// A list that shows some of its items, and a button that shows more.
function inSteps(items, step, make, container, words) {
  let shown = 0;
  const more = el("button", { type: "button" });
  const grow = () => {
    const part = items.slice(shown, shown + step);
    container.append(...part.map(make));
    shown += part.length;
    more.hidden = shown >= items.length;
    more.textContent = `Show ${Math.min(step, items.length - shown)} more of ${count(items.length)} ${words}`;
  };
  more.addEventListener("click", grow);
  grow();
  return more;
}

function table(columns, rows, attributes) {
  const head = el("tr", {}, columns.map((c) => el("th", { scope: "col", class: c.number ? "number" : null }, c.title)));
  const body = rows.map((row) =>
    el("tr", { class: row.class }, columns.map((c, i) =>
      el(i ? "td" : "th", { scope: i ? null : "row", class: c.number ? "number" : null }, row.cells[i]))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": attributes.label },
    el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

const tip = document.getElementById("tip");

// Show text or elements next to the pointer, inside the window.
function showTip(x, y, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
  const top = Math.min(y + 16, innerHeight - box.height - 8);
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

function hideTip() {
  tip.hidden = true;
}

function setting(key, value) {
  // Some browsers store nothing for pages opened from a file.
  try {
    if (value === undefined) return localStorage.getItem(`slic ${key}`);
    localStorage.setItem(`slic ${key}`, value);
  } catch { /* then each visit starts afresh */ }
  return null;
}

function saveFile(fileName, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: fileName });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
