// How clusters merged and split from one clustering to the next.
const COLUMN_GAP = 190, NODE = 14, DRAWN_HIGH = 560, NODE_GAP = 6;

const isRest = (node) => !node.name.startsWith("cluster ");

// Bands between the nodes of other clusters are not drawn: they would leave no room for the rest.
function drawnFlows(columns, changes) {
  return changes.map((change, i) => change.flows.filter(([from, to]) => !isRest(columns[i].nodes[from]) || !isRest(columns[i + 1].nodes[to])));
}

// The height of a node in videos: all of a cluster, but of the others only those in a band.
function drawnSizes(columns, flows) {
  const sum = (list, end, node) => (list || []).reduce((all, flow) => all + (flow[end] === node ? flow[2] : 0), 0);
  return columns.map((column, i) => column.nodes.map((node, at) =>
    (isRest(node) ? Math.max(sum(flows[i - 1], 1, at), sum(flows[i], 0, at)) : node.size)));
}

function laidOut(columns, sizes) {
  const most = Math.max(...columns.map((c) => c.nodes.length));
  const total = Math.max(1, ...sizes.map((list) => list.reduce((sum, size) => sum + size, 0)));
  const scale = (DRAWN_HIGH - (most - 1) * NODE_GAP) / total;
  return columns.map((column, i) => {
    let y = 34;
    return column.nodes.map((node, at) => {
      const place = { node, x: i * COLUMN_GAP + 4, y, high: Math.max(1.5, sizes[i][at] * scale), out: 0, in: 0, scale };
      y += place.high + NODE_GAP;
      return place;
    });
  });
}

function band(from, to, size) {
  const thick = Math.max(0.75, size * from.scale);
  const [x0, x1] = [from.x + NODE, to.x];
  const [y0, y1] = [from.y + from.out, to.y + to.in];
  from.out += thick;
  to.in += thick;
  const middle = (x0 + x1) / 2;
  return `M${x0},${y0}C${middle},${y0} ${middle},${y1} ${x1},${y1}v${thick}C${middle},${y1 + thick} ${middle},${y0 + thick} ${x0},${y0 + thick}z`;
}

function changesDrawing(columns, changes) {
  const flows = drawnFlows(columns, changes);
  const places = laidOut(columns, drawnSizes(columns, flows));
  const bottom = Math.max(...places.flat().map((p) => p.y + p.high)) + 8;
  const wide = (columns.length - 1) * COLUMN_GAP + 150;
  const drawing = svg("svg", { viewBox: `0 0 ${wide} ${bottom}`, role: "img", "aria-label": "Clusters over time; the table below gives the same in numbers." });
  flows.forEach((list, i) => {
    for (const [from, to, size] of list) drawing.append(flowBand(places[i][from], places[i + 1][to], size));
  });
  places.forEach((column, i) => {
    const last = i === places.length - 1;
    drawing.append(svg("text", { x: column[0]?.x ?? i * COLUMN_GAP, y: 12 }, `epoch ${columns[i].epoch}`),
      svg("text", { class: "soft", x: column[0]?.x ?? i * COLUMN_GAP, y: 26 }, counted(columns[i].count, "cluster")));
    for (const place of column) drawing.append(...nodeMark(place, last));
  });
  // As wide as the window allows, within readable limits.
  Object.assign(drawing.style, { width: "100%", minWidth: `${wide * 0.8}px`, maxWidth: `${wide * 1.15}px` });
  return el("div", { class: "changes scroll", tabindex: 0, role: "region", "aria-label": "Clusters over time" }, drawing);
}

function flowBand(from, to, size) {
  const loose = isRest(from.node) || isRest(to.node);
  const text = `${counted(size, "video")} from ${from.node.name} to ${to.node.name}`;
  const mark = svg("path", { class: loose ? "flow loose" : "flow", d: band(from, to, size) });
  mark.addEventListener("pointermove", (event) => showTip(event.clientX, event.clientY, text));
  mark.addEventListener("pointerleave", hideTip);
  return mark;
}

// Only clusters of the last clustering can have names.
function nodeTitle(node, last) {
  if (isRest(node)) return node.name;
  const number = node.name.slice("cluster ".length);
  const given = last ? names.get(number) : undefined;
  return given || (node.label ? `${number} ${node.label}` : node.name);
}

function nodeMark(place, last) {
  const { node, x, y, high } = place;
  const share = node.share === null || node.share === undefined ? "" : ` (${percent(node.share, 0)})`;
  const about = `${node.name}: ${counted(node.size, "video")}${node.label ? `, ${node.label}${share}` : ""}`;
  const mark = svg("rect", { class: isRest(node) ? "others" : "node", x, y, width: NODE, height: high, rx: 2 });
  mark.addEventListener("pointermove", (event) => showTip(event.clientX, event.clientY, name(about)));
  mark.addEventListener("pointerleave", hideTip);
  const room = high >= 6 || isRest(node);
  const shown = nodeTitle(node, last);
  return [mark, room ? svg("text", { x: x + NODE + 5, y: y + Math.min(high / 2 + 4, high + 4) }, shown.length > 22 ? `${shown.slice(0, 21)}…` : shown) : null].filter(Boolean);
}

if (report.clusters?.columns?.length > 1) {
  section("changes", "Clusters over time", (into) => {
    const { columns, changes } = report.clusters;
    into.append(el("p", { class: "note" }, `Each column is a clustering${columns.length > 5 ? " (at most six are drawn, evenly spaced)" : ""}: its largest clusters, by number${columns.some((c) => c.nodes.some((n) => n.label)) ? " and most common class" : ""}, and all others together. Each clustering numbers its clusters anew. Bands are the videos that two clusters share; videos that stay among the others are not drawn.`),
      changesDrawing(columns, changes),
      table([{ title: "from epoch" }, { title: "to epoch" }, { title: "unchanged clusters", number: true }, { title: "merged", number: true }, { title: "split", number: true }, { title: "agreement (AMI)", number: true }],
        changes.map((c, i) => ({ cells: [count(columns[i].epoch), count(columns[i + 1].epoch), count(c.same), count(c.merged), count(c.split), c.agreement === null ? "–" : c.agreement.toFixed(3)] })), { label: "Changes between clusterings" }),
      el("p", { class: "note" }, "Unchanged: clusters of exactly the same videos. Merged: later clusters that contain more than half of each of two or more earlier ones. Split: earlier clusters that contain more than half of each of two or more later ones. Parts of a single video do not count. AMI: adjusted mutual information, 1 if nothing changed and about 0 by chance."));
  });
}
