// Line charts and bars in SVG: readable in print, usable by keyboard, with their values as a table.
const WIDE = 480, HIGH = 250, LEFT = 52, RIGHT = 12, TOP = 10, BELOW = 32;

// The smallest step, 1, 2 or 5 times a power of ten, that divides a range into at most `most` parts.
function tickStep(low, high, most) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
}

function rounded([low, high], most) {
  const step = tickStep(low, high, most);
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
}

function ticks(low, high, most) {
  const step = tickStep(low, high, most);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let i = first; i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function range(values, { zero }) {
  let low = Math.min(...values), high = Math.max(...values);
  if (zero) low = Math.min(0, low);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  return [low, high];
}

function lineChart(curve) {
  const every = curve.series.flatMap((s) => s.points);
  const [x0, x1] = range(every.map((p) => p[0]), { zero: false });
  const values = every.map((p) => p[1]);
  const [y0, y1] = rounded(range(values, { zero: curve.percent || Math.min(...values) >= 0 }), 5);
  const across = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDE - LEFT - RIGHT);
  const up = (y) => HIGH - BELOW - ((y - y0) / (y1 - y0)) * (HIGH - BELOW - TOP);
  const text = (y) => (curve.percent ? `${figure(100 * y)} %` : figure(y));

  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", tabindex: 0, "aria-label": summaryOf(curve, text) });
  for (const y of ticks(y0, y1, 5)) {
    drawing.append(svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: up(y), y2: up(y) }),
      svg("text", { class: "axis", x: LEFT - 8, y: up(y) + 4, "text-anchor": "end" }, text(y)));
  }
  for (const x of ticks(x0, x1, 6).filter(Number.isInteger)) {
    drawing.append(svg("text", { class: "axis", x: across(x), y: HIGH - BELOW + 17, "text-anchor": "middle" }, count(x)));
  }
  drawing.append(svg("text", { class: "axis", x: WIDE - RIGHT, y: HIGH - 1, "text-anchor": "end" }, curve.x));
  curve.series.forEach((series, i) => {
    const points = series.points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`);
    drawing.append(svg("polyline", { class: `line s${i}`, points: points.join(" ") }));
    if (points.length === 1) drawing.append(svg("circle", { class: `dot f${i}`, r: 4, cx: across(series.points[0][0]), cy: up(series.points[0][1]) }));
  });
  follow(drawing, curve, across, up, text);
  return el("figure", { class: "chart" }, el("h3", {}, curve.title), legend(curve), drawing, asTable(curve, text));
}

function summaryOf(curve, text) {
  const last = curve.series.map((s) => `${s.name} ${text(s.points[0][1])} to ${text(s.points.at(-1)[1])}`);
  return `${curve.title} by ${curve.x}: ${last.join("; ")}. Use the arrow keys to step through the values.`;
}

function legend(curve) {
  const [first, ...more] = curve.series;
  if (!more.length && curve.title.toLowerCase().includes(first.name.toLowerCase())) return null;
  return el("ul", { class: "legend" }, curve.series.map((s, i) =>
    el("li", {}, svg("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" }, svg("line", { class: `line s${i}`, x1: 1, x2: 31, y1: 5, y2: 5, "stroke-width": 2.5 })), s.name)));
}

function asTable(curve, text) {
  const xs = [...new Set(curve.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const known = curve.series.map((s) => new Map(s.points));
  const holder = el("details", {}, el("summary", {}, "Figures"));
  holder.addEventListener("toggle", () => {
    if (!holder.open || holder.children.length > 1) return;
    holder.append(table([{ title: curve.x }, ...curve.series.map((s) => ({ title: s.name, number: true }))],
      xs.map((x) => ({ cells: [count(x), ...known.map((k) => (k.has(x) ? text(k.get(x)) : "–"))] })), { label: curve.title }));
  });
  return holder;
}

// Show the values at the x nearest to the pointer, or step through them with the arrow keys.
function follow(drawing, curve, across, up, text) {
  const xs = [...new Set(curve.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const known = curve.series.map((s) => new Map(s.points));
  const marks = svg("g", { "aria-hidden": "true" });
  drawing.append(marks);
  let at = -1;
  const show = (index, pageX, pageY) => {
    at = Math.max(0, Math.min(xs.length - 1, index));
    const x = xs[at];
    const lines = curve.series.flatMap((s, i) => (known[i].has(x) ? [el("div", {}, `${s.name} ${text(known[i].get(x))}`)] : []));
    marks.replaceChildren(svg("line", { class: "cursor", x1: across(x), x2: across(x), y1: TOP, y2: HIGH - BELOW }),
      ...curve.series.flatMap((s, i) => (known[i].has(x) ? [svg("circle", { class: `dot f${i}`, r: 4.5, cx: across(x), cy: up(known[i].get(x)) })] : [])));
    const box = drawing.getBoundingClientRect();
    showTip(pageX ?? box.left + (across(x) / WIDE) * box.width, pageY ?? box.top, el("strong", {}, `${curve.x} ${count(x)}`), ...lines);
  };
  const leave = () => { marks.replaceChildren(); at = -1; hideTip(); };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDE;
    let best = 0;
    xs.forEach((x, i) => { if (Math.abs(across(x) - place) < Math.abs(across(xs[best]) - place)) best = i; });
    show(best, event.clientX, event.clientY);
  });
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    show(at < 0 ? (step > 0 ? 0 : xs.length - 1) : at + step);
  });
}

// Bars of counts over cluster sizes; heights are logarithmic if the counts differ widely.
function sizeChart(sizes, title) {
  const bins = binned(sizes);
  const most = Math.max(...bins.map((b) => b.clusters));
  const wide = (WIDE - LEFT - RIGHT) / bins.length;
  const least = Math.min(...bins.filter((b) => b.clusters).map((b) => b.clusters));
  const scale = most > 30 * least ? Math.log1p : (n) => n;
  const high = (n) => (n ? Math.max(2, (scale(n) / scale(most)) * (HIGH - BELOW - TOP - 14)) : 0);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${title}: ${bins.map((b) => `${b.name}: ${counted(b.clusters, "cluster")}`).join(", ")}` });
  drawing.append(svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: HIGH - BELOW, y2: HIGH - BELOW }));
  bins.forEach((bin, i) => {
    const x = LEFT + i * wide, tall = high(bin.clusters), middle = x + wide / 2;
    const thick = Math.min(44, Math.max(1, wide - 4));
    drawing.append(svg("rect", { class: "bar", x: middle - thick / 2, width: thick, y: HIGH - BELOW - tall, height: tall, rx: 2 }),
      svg("text", { class: "axis", x: middle, y: HIGH - BELOW + 16, "text-anchor": "middle" }, bin.name));
    if (bin.clusters) drawing.append(svg("text", { class: "axis", x: middle, y: HIGH - BELOW - tall - 5, "text-anchor": "middle" }, count(bin.clusters)));
  });
  drawing.append(svg("text", { class: "axis", x: WIDE - RIGHT, y: HIGH - 1, "text-anchor": "end" }, "videos in a cluster"));
  return el("figure", { class: "chart" }, el("h3", {}, title), drawing, scale === Math.log1p ? el("figcaption", {}, "The heights are logarithmic.") : null);
}

// One bin per size if none is larger than 8; otherwise bins that double: 1, 2, 3-4, 5-8, ...
function binned(sizes) {
  const largest = Math.max(...sizes.map(([size]) => size));
  const bins = [];
  if (largest <= 8) for (let s = 1; s <= largest; s += 1) bins.push({ low: s, high: s });
  else for (let low = 1, high = 1; low <= largest; low = high + 1, high *= 2) bins.push({ low, high });
  return bins.map(({ low, high }) => ({
    name: low === high ? count(low) : `${count(low)}–${count(high)}`,
    clusters: sizes.reduce((sum, [size, n]) => sum + (size >= low && size <= high ? n : 0), 0),
  }));
}
