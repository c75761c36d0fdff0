// Failed videos, the page's header, its table of contents, and drawing section by section.
if (report.failed && (report.failed.count || report.failed.damaged.length)) {
  section("failed", report.failed.count ? "Failed videos" : "Videos with remarks", (into) => {
    const { count: all, listed, damaged } = report.failed;
    const rows = (list) => list.map((one) => ({ cells: [name(one.id), name(one.reason)] }));
    const columns = [{ title: "video" }, { title: "reason" }];
    if (all) into.append(el("p", {}, `${counted(all, "video")} could not be stored${listed.length < all ? `; the first ${count(listed.length)} are listed` : ""}.`), table(columns, rows(listed), { label: "Videos that failed" }));
    if (damaged.length) into.append(all ? el("h3", {}, "Stored incompletely or with a remark") : el("p", {}, `${counted(damaged.length, "video")} stored incompletely or with a remark.`), table(columns, rows(damaged), { label: "Videos with remarks" }));
  });
}

const drawers = new Map();

function drawNow(key) {
  const draw = drawers.get(key);
  drawers.delete(key);
  if (draw) draw();
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new Event("themechange"));
}

function themeButton() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = setting("theme");
  const current = () => (chosen === "dark" || chosen === "light" ? chosen : system.matches ? "dark" : "light");
  const button = el("button", { type: "button", id: "theme" });
  const show = () => {
    applyTheme(current());
    button.textContent = current() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${current() === "dark" ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    chosen = current() === "dark" ? "light" : "dark";
    setting("theme", chosen);
    show();
  });
  system.addEventListener("change", show);
  // Paper is light, and the style for print does not apply to what is painted on a canvas.
  addEventListener("beforeprint", () => applyTheme("light"));
  addEventListener("afterprint", show);
  show();
  return button;
}

function drawHead() {
  const remarks = report.remarks || [];
  document.getElementById("top").append(
    el("div", { class: "above" }, el("span", { class: "kind" }, `${report.kind === "search" ? "slic search" : "slic report"} · ${report.made} · slic ${report.slic}`), el("div", { class: "controls" }, themeButton())),
    el("h1", {}, name(report.title)),
    ...(report.kind === "search" ? [factList()] : []),
    ...(remarks.length ? [el("div", { class: "remarks" }, el("ul", {}, remarks.map((r) => el("li", {}, name(r)))))] : []));
}

// The first section at once, each other one after the browser has painted those before it.
function drawSections() {
  const main = document.getElementById("main");
  for (const { key, title, draw } of sections) {
    const into = el("section", { id: key, "aria-labelledby": `${key}-title` }, el("h2", { id: `${key}-title` }, title));
    main.append(into);
    drawers.set(key, () => draw(into));
  }
  const next = () => {
    const [key] = drawers.keys();
    if (key !== undefined) {
      drawNow(key);
      setTimeout(next);
    } else {
      document.documentElement.dataset.drawn = "";
      if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
    }
  };
  if (sections.length) drawNow(sections[0].key);
  requestAnimationFrame(() => setTimeout(next));
}

function drawContents() {
  if (sections.length < 2) {
    document.getElementById("contents").hidden = true;
    return;
  }
  const links = new Map(sections.map(({ key, title }) => [key, el("a", { href: `#${key}` }, title)]));
  document.getElementById("contents").append(el("ul", {}, [...links.values()].map((link) => el("li", {}, link))));
  const list = document.getElementById("contents");
  const mark = () => {
    const passed = sections.filter(({ key }) => document.getElementById(key).getBoundingClientRect().top < innerHeight * 0.35);
    const ended = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const current = (ended ? sections : passed.length ? passed : sections.slice(0, 1)).at(-1).key;
    for (const [key, link] of links) {
      if (key === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    // On a phone the contents are one line, which is scrolled to the current section.
    const [from, to] = [links.get(current).offsetLeft, links.get(current).offsetLeft + links.get(current).offsetWidth];
    if (from < list.scrollLeft || to > list.scrollLeft + list.clientWidth) list.scrollLeft = from - 40;
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

drawHead();
drawSections();
drawContents();
for (const kind of ["wheel", "touchmove"]) addEventListener(kind, hideTip, { passive: true });
addEventListener("beforeprint", () => {
  for (const key of [...drawers.keys()]) drawNow(key);
  fillAll();
});
