"""The report of many videos: time to build, size, first paint, and frame times while hovering.

    python benchmarks/report_page.py [--videos 10000] [--sample 10000] [--quick] [--json]

A store of simulated videos, a run of it with drawn embeddings and clusters, and `slic report`;
beside it a page of Plotly with the same points and labels (no pictures, and none of the other
sections). Both are opened from their files in headless Chromium, in turn: the time to the first
paint and until all is drawn; then the pointer goes over the map, and the intervals between frames
are noted. A screen's 60 frames a second are the floor: 16.7 ms. Needs Chromium.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from common import Column, Row, machine, refuse, say, show, show_json
from playwright.sync_api import Browser, Page, sync_playwright

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.clusterings import record_clusters
from slic.cache.entries import fingerprint
from slic.config import make_settings
from slic.embed.cached import evaluation_protocol
from slic.embed.embedding import CacheName, write_cache
from slic.encoders.encoder import new_encoder, weights_digest
from slic.encoders.tensor_files import save_tensors
from slic.eval.imported import checkpoint_content
from slic.report.build import report
from slic.runs import Run, create_run

VIDEOS, QUICK_VIDEOS = 10_000, 60
ROUNDS, QUICK_ROUNDS = 5, 1
MOVES, QUICK_MOVES = 300, 10
CLASSES, FRAMES, WIDTH, HEIGHT = 100, 8, 86, 64
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
WATCH = """() => {
    window.frames_ms = [];
    let last = performance.now();
    const tick = (now) => {
        window.frames_ms.push(now - last);
        last = now;
        requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
}"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
COLUMNS = (
    Column("page", "page"),
    Column("MB", "mb", ".1f"),
    Column("first paint ms", "first_paint_ms", ".0f"),
    Column("all drawn ms", "drawn_ms", ".0f"),
    Column("frame ms, median", "frame_ms", ".1f"),
    Column("95 %", "frame_95_ms", ".1f"),
    Column("longest", "frame_longest_ms", ".1f"),
)


class Made(NamedTuple):
    """A page to open: its file, how to recognise that it is drawn, and where to hover."""

    path: Path
    ready: str
    place: str


def simulated(number: int) -> Entry:
    """Return the index row of one video."""
    label = f"class {number % CLASSES:03d}"
    name = f"{label}/video_{number:06d}.avi"
    return Entry(
        id=name,
        key=video_key(name),
        path=name,
        label=label,
        group=None,
        split1="test" if number % 4 == 0 else "train",
        split2=None,
        split3=None,
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        fps=25.0,
        settings=fingerprint({"simulated": True}),
        source_digest=f"{number:032x}",
    )


def make_store(path: Path, count: int) -> list[Entry]:
    """Make a store of `count` videos, each a disc that moves over the background of its class."""
    store, codec = ClipStore.create(path), Codec("jpeg", quality=90)
    store.set_settings("frames", {"simulated": True})
    entries = [simulated(number) for number in range(count)]
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, entry in enumerate(entries):
        ground = np.array([number * 37 % 196, number * 91 % 196, number * 53 % 196], np.uint8)
        with store.write(entry.id, view="frames", codec=codec) as writer:
            for t in range(FRAMES):
                frame = np.roll(noise, t, axis=1) + ground
                cv2.circle(frame, (10 + 8 * t, 20 + number % 30), 9, (255, 240, 200), -1)
                writer.append(frame)
            writer.close({"source": entry.source_digest})
            store.publish(writer, entry.id, view="frames")
        store.index.put(entry)
    store.index.close()
    return entries


def make_run(folder: Path, entries: Sequence[Entry], store: Path) -> Run:
    """Make a run of a store, with random embeddings and clusters around the classes."""
    settings = make_settings("cpu-small")
    digest = ClipStore(store).digest()
    run = create_run(
        folder, settings, store=store, store_digest=digest, preset="cpu-small", fitted=False
    )
    encoder = new_encoder(settings.encoder, seed=0)
    save_tensors(run.checkpoint, checkpoint_content(encoder, settings, head=True))
    draw = np.random.default_rng(0)
    kinds = np.array([int(entry.label.split()[1]) for entry in entries if entry.label])
    centres = draw.standard_normal((CLASSES, 128))
    backbone, projection = (
        (centres[kinds] + draw.standard_normal((len(entries), 128))).astype(np.float32)
        for _ in range(2)
    )
    tag = f"e{0:05d}.{weights_digest(encoder.state_dict())}"
    name = CacheName(store.stem, digest, tag, evaluation_protocol(settings, None))
    write_cache(run.embeddings, name, entries, backbone=backbone, projection=projection)
    trained = [(entry.id, int(k)) for entry, k in zip(entries, kinds, strict=True)]
    for epoch, parts in enumerate((40, 20, 10)):
        clusters = {v: k * 1000 + int(draw.integers(parts)) for v, k in trained}
        record_clusters(run.path / "clusters.h5", epoch, clusters)
    return run


def plotly_page(path: Path, entries: Sequence[Entry], points: Row) -> None:
    """Write the same map with Plotly, as a self-contained file."""
    import plotly.graph_objects as graph

    labels = [entries[row].label for row in points["videos"]]
    codes = {label: code for code, label in enumerate(sorted(set(labels)))}
    marks = graph.Scattergl(
        x=points["x"],
        y=points["y"],
        mode="markers",
        text=[
            f"{label}: {entries[row].id}"
            for label, row in zip(labels, points["videos"], strict=True)
        ],
        marker={"size": 5, "color": [codes[label] for label in labels]},
    )
    graph.Figure(marks).write_html(path, include_plotlyjs=True)


def opened(browser: Browser, made: Made) -> tuple[Page, Row]:
    """Open a page in a fresh context, and return it with the times it took."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(made.path.as_uri(), wait_until="commit")
    page.wait_for_selector(made.ready, state="attached", timeout=120_000)
    drawn = page.evaluate("performance.now()")
    page.wait_for_timeout(1000)
    return page, {"first_paint_ms": page.evaluate(PAINT), "drawn_ms": drawn}


def hovered(page: Page, place: str, moves: int) -> list[float]:
    """Return the milliseconds between frames while the pointer moves over a map."""
    page.locator(place).first.scroll_into_view_if_needed()
    box = page.locator(place).first.bounding_box()
    assert box
    page.evaluate(WATCH)
    for step in range(moves):
        turn = step / moves * 12 * np.pi
        x = box["x"] + box["width"] * (0.5 + 0.24 * np.cos(turn * 1.1))
        y = box["y"] + box["height"] * (0.5 + 0.42 * np.sin(turn))
        page.mouse.move(float(x), float(y))
    return page.evaluate("window.frames_ms.slice(2)")


def measured(browser: Browser, pages: dict[str, Made], rounds: int, moves: int) -> list[Row]:
    """Return medians over rounds in which the pages alternate."""
    found: dict[str, list[Row]] = {name: [] for name in pages}
    frames: dict[str, list[float]] = {name: [] for name in pages}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, made in pages.items():
            page, times = opened(browser, made)
            frames[name] += hovered(page, made.place, moves)
            found[name].append(times)
            page.context.close()
    return [
        {
            "page": name,
            "mb": made.path.stat().st_size / 1e6,
            **{
                key: statistics.median(t[key] for t in found[name])
                for key in ("first_paint_ms", "drawn_ms")
            },
            "frame_ms": statistics.median(frames[name]),
            "frame_95_ms": float(np.percentile(frames[name], 95)),
            "frame_longest_ms": max(frames[name]),
        }
        for name, made in pages.items()
    ]


def make_pages(folder: Path, videos: int, sample: int) -> tuple[dict[str, Made], float]:
    """Make both pages; return the seconds that slic's report took."""
    say(f"writing {videos:,} videos")
    store = folder / "simulated.zarr"
    entries = make_store(store, videos)
    run = make_run(folder / "run", entries, store)
    begin = time.perf_counter()
    written = report(run, sample=sample, workers=0, device="cpu", say=say)
    seconds = time.perf_counter() - begin
    points = read_report(Path(written["path"]))
    plotly_page(folder / "plotly.html", entries, points)
    pages = {
        "Plotly": Made(folder / "plotly.html", ".gl-canvas, .scatterlayer", ".plotly"),
        "slic report": Made(Path(written["path"]), "html[data-drawn]", ".cloud"),
    }
    return pages, seconds


def read_report(path: Path) -> Row:
    """Return the map of a page, with videos as positions in the store."""
    text = path.read_text()
    start = text.index('id="report">') + len('id="report">')
    data = json.loads(text[start : text.index("</script>", start)])
    places = [int(data["videos"]["id"][row][-10:-4]) for row in data["map"]["videos"]]
    return {**data["map"], "videos": places}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=VIDEOS)
    parser.add_argument("--sample", type=int, help="videos on the map (default: all)")
    parser.add_argument("--quick", action="store_true", help="few videos; check that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    quick = options.quick
    videos = QUICK_VIDEOS if quick else options.videos
    chromium = next((found for name in NAMES if (found := shutil.which(name))), None)
    if chromium is None:
        refuse("no Chromium here: apt-get install chromium (Debian)")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        pages, seconds = make_pages(Path(folder).resolve(), videos, options.sample or videos)
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        rounds, moves = (QUICK_ROUNDS, QUICK_MOVES) if quick else (ROUNDS, MOVES)
        rows = measured(browser, pages, rounds, moves)
        facts = machine(
            cores=os.cpu_count(),
            videos=videos,
            chromium=browser.version,
            report_s=round(seconds, 1),
        )
        browser.close()
    theirs, ours = rows
    ratios = {key: theirs[key] / ours[key] for key in ("first_paint_ms", "drawn_ms", "frame_ms")}
    if options.json:
        show_json(facts, pages=rows, ratio=ratios["first_paint_ms"], ratios=ratios)
    else:
        show(rows, COLUMNS, facts)
        print(", ".join(f"{key} ratio {value:.2f}" for key, value in ratios.items()))


if __name__ == "__main__":
    sys.exit(main())
