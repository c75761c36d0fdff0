// Main results, facts and settings of the run, its curves, and the paper's figures.
function bigFigures() {
  return el("ul", { class: "figures" }, (report.figures || []).map((f) =>
    el("li", {}, el("span", { class: "name" }, f.name), el("div", { class: "value" }, f.text), f.note ? el("span", { class: "note" }, f.note) : null)));
}

function factList() {
  return el("dl", { class: "facts" }, (report.facts || []).map(([what, value]) =>
    el("div", { class: "fact" }, el("dt", {}, what), el("dd", {}, name(value)))));
}

function settingsTable(settings) {
  const changed = settings.filter((s) => s.value !== s.preset);
  const rows = (list) => list.map((s) => ({ class: s.value !== s.preset ? "changed" : null, cells: [el("span", { class: "code" }, s.name), el("span", { class: "code" }, s.value || "–"), el("span", { class: "code" }, s.preset || "–")] }));
  const columns = [{ title: "setting" }, { title: "this run" }, { title: "preset" }];
  const intro = changed.length ? `${counted(changed.length, "setting")} of ${settings.length} ${changed.length === 1 ? "differs" : "differ"} from the preset.` : "All settings are the preset's.";
  return [el("h3", {}, "Settings"), el("p", { class: "note" }, intro),
    changed.length ? table(columns, rows(changed), { label: "Settings that differ" }) : null,
    el("details", {}, el("summary", {}, "All settings"), table(columns, rows(settings), { label: "All settings" }))];
}

if (report.kind === "report") {
  section("summary", "Summary", (into) => {
    into.append(bigFigures(), factList());
    if (report.settings?.length) into.append(...settingsTable(report.settings).filter(Boolean));
  });
}

if (report.curves?.length) {
  section("curves", "Curves", (into) => {
    into.append(el("p", { class: "note" }, "Point at a curve, or step through it with the arrow keys."),
      el("div", { class: "charts" }, report.curves.map(lineChart)));
  });
}

if (report.paper) {
  section("paper", "Compared with the paper", (into) => {
    const paper = report.paper;
    const columns = [{ title: paper.title }, ...paper.columns.map((title) => ({ title, number: true }))];
    const cell = (row, i) => (row.own ? row.ours[i] : row.published[i]);
    into.append(el("p", { class: "note" }, paper.note), table(columns, paper.rows.map((row) => ({
      class: row.own ? "own" : null,
      cells: [`${row.method}, ${row.network}`, ...paper.columns.map((_, i) => (cell(row, i) === null || cell(row, i) === undefined ? "–" : cell(row, i).toFixed(1)))],
    })), { label: "Published figures and this run's" }));
  });
}
