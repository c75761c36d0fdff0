// Queries and their nearest videos, as small animated pictures.
function card(row, { verdict, extra, query } = {}) {
  const label = labelOf(row);
  return el("figure", { class: `card ${query ? "query" : ""} ${verdict === true ? "right" : verdict === false ? "wrong" : ""}` },
    strip(row),
    el("figcaption", {},
      extra || null,
      label ? name(label, { class: "who" }) : null,
      name(videos.id[row], { class: "id", title: videos.id[row] })));
}

function neighbourCard(neighbour, rank) {
  const words = neighbour.right === true ? "✓ same class" : neighbour.right === false ? "✗ other class" : null;
  const extra = el("span", {}, `${rank + 1}. ${neighbour.similarity.toFixed(3)} `, words ? el("span", { class: "verdict" }, words) : null);
  return card(neighbour.video, { verdict: neighbour.right, extra });
}

function match(row) {
  return el("div", { class: "match" }, card(row.query, { query: true, extra: el("span", {}, "query") }),
    row.neighbours.map(neighbourCard), row.neighbours.length ? null : el("p", { class: "note" }, "There is no other video to compare with."));
}

function group(part) {
  const rows = el("div", {});
  const more = inSteps(part.rows, 8, match, rows, "queries");
  return el("div", {}, part.title ? el("h3", {}, name(part.title)) : null, part.note ? el("p", { class: "note" }, part.note) : null, rows, more);
}

function galleryTools(gallery, show) {
  const tabs = gallery.views.map((view) => el("button", { type: "button", "aria-pressed": "false", "data-view": view.key }, view.title));
  const open = (key) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.view === key)));
    show(gallery.views.find((view) => view.key === key));
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => open(tab.dataset.view)));
  const tools = el("div", { class: "tools" }, tabs.length > 1 ? tabs : null, pauseButton());
  return [tools, open];
}

function pauseButton() {
  const button = el("button", { type: "button" });
  const set = (paused) => {
    document.body.classList.toggle("still-paused", paused);
    button.textContent = paused ? "Play the pictures" : "Pause the pictures";
  };
  set(matchMedia("(prefers-reduced-motion: reduce)").matches);
  button.addEventListener("click", () => set(!document.body.classList.contains("still-paused")));
  return button;
}

if (report.gallery) {
  section("gallery", report.kind === "search" ? "Found" : "Retrieval", (into) => {
    const gallery = report.gallery;
    const holder = el("div", {});
    const show = (view) => holder.replaceChildren(...[view.note ? el("p", { class: "note" }, view.note) : null, ...view.groups.map(group)].filter(Boolean));
    const [tools, open] = galleryTools(gallery, show);
    into.append(tools, holder);
    if (gallery.views.length) open(gallery.views[0].key);
  });
}

if (report.classes?.length) {
  section("classes", "Classes", (into) => {
    const list = el("ul", { class: "bars" });
    const bar = (one) => {
      const inner = el("i", {});
      inner.style.width = `${100 * one.recall}%`;
      return el("li", {}, el("button", { type: "button", title: "Show on the map", onclick: () => lookAt(one.label) }, name(one.label)),
        el("meter-bar", { "aria-hidden": "true" }, inner), el("span", { class: "number" }, `${percent(one.recall, 0)} of ${count(one.queries)}`));
    };
    const search = el("input", { type: "search", placeholder: "name of a class" });
    const order = el("select", {}, [["worst", "worst first"], ["best", "best first"], ["name", "by name"]].map(([value, text]) => el("option", { value }, text)));
    const more = el("div", {});
    const draw = () => {
      const wanted = search.value.trim().toLowerCase();
      const found = report.classes.filter((one) => one.label.toLowerCase().includes(wanted));
      const by = { worst: (a, b) => a.recall - b.recall, best: (a, b) => b.recall - a.recall, name: (a, b) => a.label.localeCompare(b.label) }[order.value];
      list.replaceChildren();
      more.replaceChildren(inSteps(found.sort(by), 120, bar, list, "classes"));
    };
    search.addEventListener("input", draw);
    order.addEventListener("change", draw);
    into.append(el("p", { class: "note" }, "Recall at 1: the share of a class's test videos whose nearest training video is of the same class."),
      el("div", { class: "tools" }, el("label", {}, "Find", search), el("label", {}, "Order", order)), list, more);
    draw();
  });
}
