// All (or a sample of) the videos in two dimensions, coloured by class, cluster or split.
const PALETTE = 24;

function hueColour(i, many) {
  const dark = document.documentElement.dataset.theme === "dark";
  const turn = many <= 8 ? i / many : (i * 0.381966) % 1;
  const light = (dark ? 66 : 42) + (many > 8 ? [0, 10, -8][i % 3] : 0);
  return `hsl(${Math.round(360 * turn + 215) % 360} ${dark ? 70 : 68}% ${light}%)`;
}

function extentOf(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return { middle: (low + high) / 2, size: high - low || 1 };
}

class Cloud {
  constructor(data) {
    this.data = data;
    this.n = data.videos.length;
    this.view = { scale: 1, x: 0, y: 0 };
    this.extent = { x: extentOf(data.x), y: extentOf(data.y) };
    this.base = el("canvas", { tabindex: 0, role: "application", "aria-label": `Map of ${counted(this.n, "video")}. Use the arrow keys to step from video to video, plus and minus to zoom, and Enter to keep a video in view below.` });
    this.over = el("canvas", { "aria-hidden": "true" });
    this.at = -1;
    this.kept = el("div", { class: "pinned", "aria-live": "polite" });
    this.shown = new Uint8Array(this.n).fill(1);
    this.place = el("div", { class: "cloud" }, this.base, this.over, this.zoomButtons());
    this.listen();
  }

  zoomButtons() {
    const button = (text, label, act) => el("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    return el("div", { class: "zoom" }, button("+", "Zoom in", () => this.zoom(1.5)), button("–", "Zoom out", () => this.zoom(1 / 1.5)), button("⌂", "Whole map", () => this.whole()));
  }

  marked() {
    return this.at < 0 ? [this.width / 2, this.height / 2] : [this.spots[2 * this.at], this.spots[2 * this.at + 1]];
  }

  whole() {
    this.view = { scale: 1, x: 0, y: 0 };
    this.draw();
  }

  fit() {
    const box = this.place.getBoundingClientRect();
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.width = box.width;
    this.height = box.height;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(box.width * this.ratio);
      canvas.height = Math.round(box.height * this.ratio);
    }
    this.draw();
  }

  // The place of a video on the canvas, in CSS pixels.
  spot(i) {
    const { scale, x, y } = this.view;
    const across = this.extent.x, down = this.extent.y;
    const side = scale * Math.min((this.width - 32) / across.size, (this.height - 32) / down.size);
    return [this.width / 2 + (this.data.x[i] - across.middle) * side + x, this.height / 2 + (this.data.y[i] - down.middle) * side + y];
  }

  colour(codes, colours) {
    this.codes = codes;
    this.colours = colours;
    this.draw();
  }

  only(test) {
    for (let i = 0; i < this.n; i += 1) this.shown[i] = test(this.data.videos[i], i) ? 1 : 0;
    this.draw();
  }

  draw() {
    if (!this.width || !this.codes) return;
    const paint = this.base.getContext("2d");
    paint.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    paint.clearRect(0, 0, this.width, this.height);
    const size = Math.max(2, Math.min(5.5, 115 / Math.sqrt(this.n))) * Math.min(2.2, this.view.scale ** 0.35);
    this.size = size;
    this.spots = new Float32Array(2 * this.n);
    for (let i = 0; i < this.n; i += 1) [this.spots[2 * i], this.spots[2 * i + 1]] = this.spot(i);
    paint.globalAlpha = 0.18;
    paint.fillStyle = colourOf("--soft");
    this.dots(paint, size * 0.75, (i) => !this.shown[i]);
    paint.globalAlpha = 0.85;
    this.colours.forEach((colour, code) => {
      paint.fillStyle = colour;
      this.dots(paint, size, (i) => this.shown[i] && this.codes[i] === code);
    });
    paint.globalAlpha = 1;
    this.sort();
    this.mark();
  }

  dots(paint, size, wanted) {
    paint.beginPath();
    for (let i = 0; i < this.n; i += 1) {
      if (!wanted(i)) continue;
      const [x, y] = [this.spots[2 * i], this.spots[2 * i + 1]];
      if (x < -size || y < -size || x > this.width + size || y > this.height + size) continue;
      paint.moveTo(x + size, y);
      paint.arc(x, y, size, 0, 2 * Math.PI);
    }
    paint.fill();
  }

  // Index the videos by squares of 24 pixels, to find the one nearest to the pointer quickly.
  sort() {
    this.squares = new Map();
    for (let i = 0; i < this.n; i += 1) {
      if (!this.shown[i]) continue;
      const key = `${Math.floor(this.spots[2 * i] / 24)},${Math.floor(this.spots[2 * i + 1] / 24)}`;
      if (!this.squares.has(key)) this.squares.set(key, []);
      this.squares.get(key).push(i);
    }
  }

  nearest(x, y) {
    let best = -1, least = 20 * 20;
    const [cx, cy] = [Math.floor(x / 24), Math.floor(y / 24)];
    for (let dx = -1; dx <= 1; dx += 1) for (let dy = -1; dy <= 1; dy += 1) {
      for (const i of this.squares.get(`${cx + dx},${cy + dy}`) || []) {
        const far = (this.spots[2 * i] - x) ** 2 + (this.spots[2 * i + 1] - y) ** 2;
        if (far < least) [best, least] = [i, far];
      }
    }
    return best;
  }

  mark() {
    const paint = this.over.getContext("2d");
    paint.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    paint.clearRect(0, 0, this.width, this.height);
    if (this.at < 0) return;
    paint.lineWidth = 2.5;
    paint.strokeStyle = colourOf("--ink");
    paint.beginPath();
    paint.arc(this.spots[2 * this.at], this.spots[2 * this.at + 1], this.size + 4, 0, 2 * Math.PI);
    paint.stroke();
  }

  point(i) {
    if (i !== this.at) {
      this.at = i;
      this.mark();
      this.card = i < 0 ? null : videoCard(this.data.videos[i]);
    }
    if (i < 0) return hideTip();
    const box = this.place.getBoundingClientRect();
    return showTip(box.left + this.spots[2 * i], box.top + this.spots[2 * i + 1], this.card);
  }

  keep() {
    if (this.at < 0) return;
    const row = this.data.videos[this.at];
    const cluster = videos.cluster[row];
    this.kept.replaceChildren(videoCard(row), cluster !== null && report.clusters ? el("button", { type: "button", onclick: () => openCluster(cluster) }, "Open its cluster") : "");
  }

  // Zoom about a point; by default the marked video, or else the middle.
  zoom(by, x = this.marked()[0], y = this.marked()[1]) {
    const scale = Math.max(1, Math.min(60, this.view.scale * by));
    const ratio = scale / this.view.scale;
    const [ax, ay] = [x - this.width / 2, y - this.height / 2];
    this.view = scale === 1 ? { scale, x: 0, y: 0 } : { scale, x: ax - (ax - this.view.x) * ratio, y: ay - (ay - this.view.y) * ratio };
    this.draw();
  }

  // Zoom by keyboard; the tip of the marked video moves along.
  zoomMarked(by) {
    if (by) this.zoom(by);
    else this.whole();
    if (this.at >= 0) this.point(this.at);
  }

  // Step from the marked video (or the middle) to the nearest one in the direction of an arrow key.
  step(dx, dy) {
    const begun = this.at >= 0;
    const [x, y] = begun ? [this.spots[2 * this.at], this.spots[2 * this.at + 1]] : [this.width / 2, this.height / 2];
    let best = -1, least = Infinity;
    for (let i = 0; i < this.n; i += 1) {
      if (!this.shown[i] || i === this.at) continue;
      const [ax, ay] = [this.spots[2 * i] - x, this.spots[2 * i + 1] - y];
      const along = ax * dx + ay * dy, aside = Math.abs(ax * dy - ay * dx);
      if (begun && along <= 0) continue;
      const far = Math.abs(along) + 2 * aside;
      if (far < least) [best, least] = [i, far];
    }
    return best < 0 ? undefined : this.point(best);
  }

  listen() {
    const held = new Map();
    let moved = 0;
    const local = (event) => {
      const box = this.place.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.base.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, local(event));
      moved = 0;
      this.base.setPointerCapture(event.pointerId);
    });
    this.base.addEventListener("pointermove", (event) => {
      const [x, y] = local(event);
      const before = held.get(event.pointerId);
      if (!before) return this.point(this.nearest(x, y));
      const others = [...held].filter(([id]) => id !== event.pointerId).map(([, spot]) => spot);
      moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      if (others.length) {
        const far = (spot) => Math.hypot(spot[0] - others[0][0], spot[1] - others[0][1]) || 1;
        this.zoom(far([x, y]) / far(before), others[0][0], others[0][1]);
      } else {
        this.view.x += x - before[0];
        this.view.y += y - before[1];
        this.draw();
      }
      held.set(event.pointerId, [x, y]);
      return hideTip();
    });
    const up = (event) => {
      const spot = held.get(event.pointerId);
      held.delete(event.pointerId);
      if (!spot || moved > 6 || event.type === "pointercancel") return;
      this.point(this.nearest(...spot));
      this.keep();
    };
    this.base.addEventListener("pointerup", up);
    this.base.addEventListener("pointercancel", up);
    this.base.addEventListener("pointerleave", () => { if (!held.size) this.point(-1); });
    this.base.addEventListener("blur", () => this.point(-1));
    this.base.addEventListener("wheel", (event) => {
      // Without Ctrl the wheel scrolls the page, as usual.
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0025), ...local(event));
    }, { passive: false });
    this.base.addEventListener("keydown", (event) => {
      const act = {
        ArrowRight: () => this.step(1, 0), ArrowLeft: () => this.step(-1, 0), ArrowUp: () => this.step(0, -1), ArrowDown: () => this.step(0, 1),
        "+": () => this.zoomMarked(1.5), "=": () => this.zoomMarked(1.5), "-": () => this.zoomMarked(1 / 1.5), 0: () => this.zoomMarked(0), Enter: () => this.keep(), Escape: () => this.point(-1),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
  }
}

function videoCard(row) {
  const [label, cluster, part, seconds] = [labelOf(row), videos.cluster[row], videos.split[row], videos.seconds[row]];
  const facts = [cluster === null || cluster === undefined ? null : clusterName(cluster), part, seconds === null || seconds === undefined ? null : `${seconds.toFixed(1)} s`];
  return el("div", { class: "tipped" }, stillNow(row),
    el("div", {}, label ? el("div", {}, el("strong", {}, name(label))) : null, el("div", {}, name(videos.id[row])), el("div", { class: "note" }, name(facts.filter(Boolean).join(", ")))));
}

// The ways to colour videos: named groups, the largest first.
function colourings(rows) {
  const by = (title, of, word) => {
    const sizes = new Map();
    for (const row of rows) {
      const key = of(row);
      if (key !== null && key !== undefined) sizes.set(key, (sizes.get(key) || 0) + 1);
    }
    const keys = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || String(a).localeCompare(String(b)));
    return keys.length ? { title, of, keys, sizes, word } : null;
  };
  return [by("class", labelOf, (k) => k), by("cluster", (row) => videos.cluster[row], clusterName), by("split", (row) => videos.split[row], (k) => k)].filter(Boolean);
}

let lookAt = () => {};
let lookAtCluster = () => {};

function drawMap(into) {
  const data = report.map;
  const cloud = new Cloud(data);
  const kinds = colourings(data.videos);
  const choice = el("select", {}, kinds.map((kind, i) => el("option", { value: i }, kind.title)));
  const search = el("input", { type: "search", placeholder: "class, video or cluster" });
  const found = el("span", { class: "note", role: "status" });
  const keys = el("ul", { class: "keys" });
  let picked = new Set();

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const kind = kinds[Number(choice.value)];
    const texts = (row) => [labelOf(row) || "", videos.id[row], videos.cluster[row] === null ? "" : clusterName(videos.cluster[row])];
    // The exact name of a class selects that class only, not all whose names contain it.
    const exact = kinds.some((k) => k.keys.some((key) => String(k.word(key)).toLowerCase() === wanted));
    const fits = (text) => (exact ? text.toLowerCase() === wanted : text.toLowerCase().includes(wanted));
    let hits = 0;
    cloud.only((row) => {
      const yes = (!wanted || texts(row).some(fits)) && (!picked.size || picked.has(kind.of(row)));
      hits += yes ? 1 : 0;
      return yes;
    });
    found.textContent = wanted || picked.size ? `${count(hits)} of ${counted(data.videos.length, "video")}` : "";
  };

  const paint = () => {
    const kind = kinds[Number(choice.value)];
    if (!kind) {
      cloud.colour(new Int32Array(data.videos.length), [colourOf("--c0")]);
      return;
    }
    const coloured = kind.keys.slice(0, PALETTE);
    const code = new Map(coloured.map((key, i) => [key, i]));
    const colours = [...coloured.map((_, i) => hueColour(i, coloured.length)), colourOf("--soft")];
    cloud.colour(Int32Array.from(data.videos, (row) => code.get(kind.of(row)) ?? coloured.length), colours);
    keys.replaceChildren(...coloured.map((key, i) => keyButton(kind, key, colours[i])),
      ...(kind.keys.length > PALETTE ? [el("li", { class: "note" }, `and ${count(kind.keys.length - PALETTE)} more, in grey`)] : []));
  };

  const keyButton = (kind, key, colour) => {
    const mark = el("i", {});
    mark.style.background = colour;
    const button = el("button", { type: "button", "aria-pressed": String(picked.has(key)) }, mark, name(kind.word(key)), ` ${count(kind.sizes.get(key))}`);
    button.addEventListener("click", () => {
      if (!picked.delete(key)) picked.add(key);
      button.setAttribute("aria-pressed", String(picked.has(key)));
      filter();
    });
    return el("li", {}, button);
  };

  const show = (title, text) => {
    const kind = kinds.findIndex((k) => k.title === title);
    if (kind >= 0) choice.value = String(kind);
    picked = new Set();
    search.value = text;
    cloud.whole();
    paint();
    filter();
    document.getElementById("map").scrollIntoView();
  };
  lookAt = (label) => show("class", label);
  lookAtCluster = (cluster) => show("cluster", clusterName(cluster));

  choice.addEventListener("change", () => { picked = new Set(); paint(); filter(); });
  search.addEventListener("input", filter);
  addEventListener("themechange", paint);
  into.append(el("p", { class: "note" }, `${data.method}. ${data.note || ""}`),
    el("div", { class: "tools" }, kinds.length ? el("label", {}, "Colour by", choice) : null, el("label", {}, "Find", search), found),
    cloud.place, cloud.kept, el("p", { class: "note" }, "Drag to move; zoom with Ctrl and the wheel, two fingers or the buttons; click to keep a video in view. Nearby videos are similar; distances between far groups mean little."), keys);
  new ResizeObserver(() => cloud.fit()).observe(cloud.place);
  paint();
  cloud.fit();
}

if (report.map?.videos.length) {
  section("map", "Map", drawMap);
}
