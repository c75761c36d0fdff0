// Stills and strips: each picture is decoded from its own element when it is first needed.
const urls = new Map();

function pictureUrl(key) {
  if (!urls.has(key)) {
    const holder = document.getElementById(`image-${key}`);
    if (!holder) return null;
    const bytes = Uint8Array.from(atob(holder.textContent), (c) => c.charCodeAt(0));
    urls.set(key, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
    holder.remove();
  }
  return urls.get(key);
}

// Pictures are at the end of the file, after the program, so early requests wait for them.
function whenRead(task) {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", task, { once: true });
  else task();
}

const near = new IntersectionObserver((seen) => {
  for (const one of seen) {
    if (!one.isIntersecting) continue;
    near.unobserve(one.target);
    whenRead(() => fill(one.target));
  }
}, { rootMargin: "400px" });

// Weak, so that elements that a list no longer shows can be freed.
const waiting = new WeakMap();

function fill(holder) {
  const task = waiting.get(holder);
  waiting.delete(holder);
  if (task) task();
}

function later(holder, task) {
  waiting.set(holder, task);
  near.observe(holder);
  return holder;
}

// Everything that is still waiting, before the page is printed.
function fillAll() {
  for (const holder of document.querySelectorAll(".pic")) fill(holder);
}

function describe(row) {
  const label = labelOf(row);
  return label ? `${label}: ${videos.id[row]}` : String(videos.id[row]);
}

function putStill(holder, row) {
  const still = videos.still[row];
  const { width, height, columns, rows } = report.stills || {};
  const cell = columns * rows;
  const url = still >= 0 && cell ? pictureUrl(`s${Math.floor(still / cell)}`) : null;
  if (!url) {
    holder.classList.add("none");
    return;
  }
  const image = el("img", { alt: describe(row), decoding: "async" });
  const place = still % cell;
  image.style.objectPosition = `${-(place % columns) * width}px ${-Math.floor(place / columns) * height}px`;
  image.src = url;
  holder.append(image);
}

function still(row) {
  const holder = el("span", { class: "pic still" });
  return later(holder, () => putStill(holder, row));
}

// Without waiting until it is near the window: for the tip at the pointer.
function stillNow(row) {
  const holder = el("span", { class: "pic still" });
  whenRead(() => putStill(holder, row));
  return holder;
}

function strip(row) {
  const holder = el("div", { class: "pic strip" });
  return later(holder, () => {
    const url = pictureUrl(`m${row}`);
    if (url) holder.append(el("img", { src: url, alt: describe(row), decoding: "async" }));
    else if (videos.still[row] >= 0) putStill(holder, row);
    else holder.classList.add("none");
  });
}
