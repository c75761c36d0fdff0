// The clusters of the last clustering: sizes, purity, videos, and names that the reader gives them.
// With the counts, because runs in other folders may have the same name.
function namesKey() {
  const { clustering, videos: all, count: many, singletons } = report.clusters;
  return `names ${report.title} ${clustering} ${all} ${many} ${singletons}`;
}

function restoreNames() {
  const kept = setting(namesKey());
  if (!kept) return;
  try {
    const { made: when, given: all } = JSON.parse(kept);
    // Names given on this very page are newer than those in the file.
    if (when === report.made) names.clear();
    for (const [cluster, given] of Object.entries(all)) if (!names.has(cluster)) names.set(cluster, String(given));
  } catch { /* not in our format */ }
}

function giveName(cluster, text) {
  // One line, as the readers of the CSV file require.
  const given = text.replace(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();
  if (given) names.set(String(cluster), given);
  else names.delete(String(cluster));
  setting(namesKey(), JSON.stringify({ made: report.made, given: Object.fromEntries(names) }));
  dispatchEvent(new Event("nameschange"));
}

const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;

// One line per named cluster; `slic report --names` and `slic cache export --names` read it.
function namesCsv() {
  const rows = [...names].sort((a, b) => Number(a[0]) - Number(b[0]));
  return ["clustering,cluster,name", ...rows.map(([cluster, given]) => [report.clusters.clustering, cluster, quoted(given)].join(","))].join("\n") + "\n";
}

function clusterRow(cluster) {
  const labels = cluster.labels.map(([label, n]) => `${label} ${count(n)}`).join(", ");
  const title = el("span", {}, name(clusterName(cluster.id)));
  const inside = el("div", { class: "inside" });
  const holder = el("details", {},
    el("summary", {}, title, el("span", { class: "number" }, counted(cluster.size, "video")),
      el("span", { class: "number" }, cluster.purity === null ? "" : `${percent(cluster.purity, 0)} pure`), name(labels, { class: "of" })),
    inside);
  holder.addEventListener("toggle", () => {
    if (holder.open && !inside.children.length) inside.append(...clusterInside(cluster, title));
  });
  return el("li", { "data-cluster": cluster.id }, holder);
}

function clusterInside(cluster, title) {
  const field = el("input", { value: names.get(String(cluster.id)) || "", maxlength: 200, autocomplete: "off" });
  field.addEventListener("input", () => {
    giveName(cluster.id, field.value);
    title.replaceChildren(name(clusterName(cluster.id)));
  });
  const shown = cluster.videos.length < cluster.size ? `${cluster.videos.length} of its ${counted(cluster.size, "video")}, drawn at random.` : null;
  return [
    el("div", { class: "tools" }, el("label", {}, "Name", field),
      report.map ? el("button", { type: "button", onclick: () => lookAtCluster(cluster.id) }, "Show on the map") : null),
    shown ? el("p", { class: "note" }, shown) : null,
    el("ul", { class: "stills" }, cluster.videos.map((row) =>
      el("li", {}, still(row), labelOf(row) ? name(labelOf(row)) : null, name(videos.id[row], { title: videos.id[row] })))),
  ].filter(Boolean);
}

function clusterTools(draw) {
  const search = el("input", { type: "search", placeholder: "class, name or number" });
  const byClass = report.clusters.purity === null ? [] : [["pure", "purest first"], ["mixed", "most mixed first"]];
  const order = el("select", {}, [["size", "largest first"], ...byClass, ["number", "by number"]].map(([value, text]) => el("option", { value }, text)));
  const save = el("button", { type: "button", id: "save-names" }, "Save the names");
  const allow = () => { save.disabled = !names.size; };
  addEventListener("nameschange", allow);
  allow();
  save.addEventListener("click", () => saveFile("clusters.csv", namesCsv(), "text/csv"));
  search.addEventListener("input", () => draw(search.value, order.value));
  order.addEventListener("change", () => draw(search.value, order.value));
  return el("div", { class: "tools" }, el("label", {}, "Find", search), el("label", {}, "Order", order), save);
}

const CLUSTER_ORDER = {
  size: (a, b) => b.size - a.size,
  pure: (a, b) => (b.purity ?? 0) - (a.purity ?? 0) || b.size - a.size,
  mixed: (a, b) => (a.purity ?? 0) - (b.purity ?? 0) || b.size - a.size,
  number: (a, b) => a.id - b.id,
};

function isOf(cluster, wanted) {
  if (!wanted) return true;
  const texts = [String(cluster.id), names.get(String(cluster.id)) || "", ...cluster.labels.map(([label]) => label)];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

if (report.clusters) {
  restoreNames();
  section("clusters", "Clusters", (into) => {
    const found = report.clusters;
    const purity = found.purity === null ? "" : ` ${percent(found.purity)} of the labelled videos belong to the most common class of their cluster.`;
    const list = el("ul", { class: "clusters" });
    const more = el("div", {});
    const draw = (text, order) => {
      const wanted = text.trim().toLowerCase();
      const shown = found.listed.filter((cluster) => isOf(cluster, wanted)).sort(CLUSTER_ORDER[order]);
      list.replaceChildren();
      more.replaceChildren(shown.length ? inSteps(shown, 25, clusterRow, list, "clusters") : el("p", {}, "No listed cluster matches."));
    };
    const rest = found.count - found.listed.length;
    into.append(el("p", {}, `At epoch ${found.epoch}, ${counted(found.videos, "training video")} formed ${counted(found.count, "cluster")}, ${count(found.singletons)} of them with a single video.${purity}`),
      el("div", { class: "charts" }, sizeChart(found.sizes, "Sizes of the clusters")),
      el("h3", {}, "Open a cluster to see its videos and name it"),
      el("p", { class: "note" }, `This browser remembers the names if it can; save them to use them elsewhere: slic report --names clusters.csv${rest > 0 ? `. The ${count(found.listed.length)} largest clusters are listed` : ""}.`),
      clusterTools(draw), list, more);
    draw("", "size");
  });
}

function openCluster(number) {
  const place = document.getElementById("clusters");
  drawNow("clusters");
  place.scrollIntoView();
  const search = place.querySelector("input[type=search]");
  search.value = String(number);
  search.dispatchEvent(new Event("input"));
  const one = place.querySelector(`[data-cluster="${number}"] details`);
  if (one) one.open = true;
}
