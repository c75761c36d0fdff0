// Which classes are confused with which.
const MOST_NAMED = 30; // classes at most that leave room for names next to the matrix and counts in it

function colourOf(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
}

function drawMatrix(canvas, confusion, sums) {
  const n = confusion.classes.length;
  const cell = Math.max(1, Math.floor(1152 / n));
  canvas.width = canvas.height = n * cell;
  const paint = canvas.getContext("2d");
  paint.fillStyle = colourOf("--sunk");
  paint.fillRect(0, 0, canvas.width, canvas.height);
  for (const [row, column, number] of confusion.cells) {
    paint.globalAlpha = 0.12 + 0.88 * (number / sums[row]);
    paint.fillStyle = colourOf(row === column ? "--right" : "--wrong");
    paint.fillRect(column * cell, row * cell, cell, cell);
  }
  paint.globalAlpha = 1;
  if (n <= MOST_NAMED) drawCounts(paint, confusion, sums, cell);
}

function drawCounts(paint, confusion, sums, cell) {
  paint.font = `${Math.round(Math.min(cell * 0.42, 44))}px ${colourOf("--font")}`;
  paint.textAlign = "center";
  paint.textBaseline = "middle";
  for (const [row, column, number] of confusion.cells) {
    paint.fillStyle = colourOf(number / sums[row] > 0.5 ? "--card" : "--ink");
    paint.fillText(String(number), (column + 0.5) * cell, (row + 0.5) * cell, cell * 0.9);
  }
}

// Names of the classes to the left of the matrix, their numbers above it.
function besideMatrix(confusion, canvas) {
  const classes = confusion.classes;
  if (classes.length > MOST_NAMED) return el("div", { class: "rows" }, canvas);
  const above = el("ol", { class: "above-columns", "aria-hidden": "true" }, classes.map((_, i) => el("li", {}, i + 1)));
  above.style.gridTemplateColumns = `repeat(${classes.length}, 1fr)`;
  return el("div", { class: "rows named" }, above,
    el("ol", { class: "beside-rows", "aria-hidden": "true" }, classes.map((one, i) => el("li", {}, name(one, { title: one }), ` ${i + 1}`))), canvas);
}

function confusionView(confusion) {
  const n = confusion.classes.length;
  const sums = confusion.totals;
  const known = new Map(confusion.cells.map(([row, column, number]) => [row * n + column, number]));
  const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": `${confusion.title}: ${n} by ${n} classes; the list of mistakes gives the same numbers. Use the arrow keys to step through the cells.` });
  drawMatrix(canvas, confusion, sums);
  const at = { row: 0, column: 0 };
  const show = (x, y) => {
    const number = known.get(at.row * n + at.column) || 0;
    const share = sums[at.row] ? ` (${percent(number / sums[at.row])})` : "";
    showTip(x, y, el("div", {}, name(confusion.classes[at.row])), el("div", {}, "predicted as ", name(confusion.classes[at.column])), el("strong", {}, `${counted(number, "video")}${share}`));
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    at.column = Math.min(n - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * n)));
    at.row = Math.min(n - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * n)));
    show(event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("blur", hideTip);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Escape") hideTip();
    if (!step) return;
    event.preventDefault();
    at.row = Math.min(n - 1, Math.max(0, at.row + step[0]));
    at.column = Math.min(n - 1, Math.max(0, at.column + step[1]));
    const box = canvas.getBoundingClientRect();
    show(box.left + ((at.column + 0.5) / n) * box.width, box.top + ((at.row + 0.5) / n) * box.height);
  });
  return el("div", { class: "matrix" },
    el("figure", { class: "chart" }, besideMatrix(confusion, canvas), el("figcaption", {}, "Rows are true classes and columns are predicted classes, both in alphabetical order. The stronger the colour, the larger the share of the row. The diagonal is correct.")),
    mistakes(confusion, sums));
}

function mistakes(confusion, sums) {
  const wrong = confusion.cells.filter(([row, column]) => row !== column)
    .sort((a, b) => b[2] - a[2] || b[2] / sums[b[0]] - a[2] / sums[a[0]]);
  if (!wrong.length) return el("p", {}, "Every video was predicted correctly.");
  const body = el("tbody", {});
  const make = ([row, column, number]) => el("tr", {}, el("th", { scope: "row" }, name(confusion.classes[row])), el("td", {}, name(confusion.classes[column])),
    el("td", { class: "number" }, count(number)), el("td", { class: "number" }, percent(number / sums[row], 0)));
  const head = el("tr", {}, ["class", "predicted as"].map((t) => el("th", { scope: "col" }, t)), ["videos", "share"].map((t) => el("th", { scope: "col", class: "number" }, t)));
  const more = inSteps(wrong, 15, make, body, "kinds of mistake");
  return el("div", {}, el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), body)), more);
}

if (report.confusion?.length) {
  section("confusion", "Confusion", (into) => {
    const holder = el("div", {});
    const choice = el("select", {}, report.confusion.map((c, i) => el("option", { value: i }, c.title)));
    const draw = () => {
      const chosen = report.confusion[Number(choice.value)];
      holder.replaceChildren(el("p", { class: "note" }, chosen.note || ""), confusionView(chosen));
    };
    choice.addEventListener("change", draw);
    addEventListener("themechange", draw);
    into.append(report.confusion.length > 1 ? el("div", { class: "tools" }, el("label", {}, "Predicted by", choice)) : el("p", {}, report.confusion[0].title), holder);
    draw();
  });
}
