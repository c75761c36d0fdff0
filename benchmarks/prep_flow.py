"""Video files to stored flow: `slic prep flow` against OpenCV in parallel processes.

    python benchmarks/prep_flow.py [--quick] [--json] [--workers 2] [VIDEO_OR_FOLDER ...]
    python benchmarks/prep_flow.py --memory [--quick] [--json]

Both sides start from the same files, one after the other, in the same number of processes;
the peer is peer_flow.py. slic also stores the frames. A third line is slic's engine alone on the
stored frames: what the pipeline would reach if all else were free. --memory shows instead the
peak memory of `slic prep flow` for longer and longer videos, in one process. Without videos
it draws its own. --quick takes few and checks that both sides agree; its speeds mean nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import Column, Row, drawn_video, machine, say, show, show_json, video_files
from measured import Measured, run_measured
from peer_flow import flows

from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset
from slic.prep.flow_video import to_gray
from slic.prep.tvl1 import engine_version, tvl1_flow
from slic.runtime.processes import run_jobs

ENGINE = "cpu"
COMPARED_VIDEOS, COMPARED_PAIRS = 8, 4
# Of stored flow (frames and flow each a JPEG) from the peer's: measured 0.06 to 0.08 px on the
# drawn clips, and 0.20 or more where flow is zero, of the next pair, or has u and v exchanged.
LARGEST_ERROR = 0.15  # pixels
LENGTHS, QUICK_LENGTHS = (300, 1000, 3000), (40, 160)  # frames
MB = 1e6
COLUMNS = (
    Column("side", "side"),
    Column("pairs", "pairs"),
    Column("seconds", "seconds", ".1f"),
    Column("pairs/s", "pairs_per_s", ".1f"),
    Column("CPU s", "cpu_seconds", ".1f"),
    Column("peak MB", "peak_mb", ".0f"),
    Column("ratio", "ratio", ".2f"),
)
MEMORY_COLUMNS = (
    Column("frames", "frames"),
    Column("seconds", "seconds", ".1f"),
    Column("peak MB", "peak_mb", ".0f"),
)


def linked(files: Sequence[Path], folder: Path) -> list[Path]:
    """Links to videos, numbered, in one new folder; their bytes read once, for both sides."""
    folder.mkdir()
    links = []
    for number, file in enumerate(files):
        file.read_bytes()
        links.append(folder / f"{number:03d}-{file.name}")
        links[-1].symlink_to(file.resolve())
    return links


def slic_prep_flow(videos: Path, store: Path, workers: int) -> Measured:
    """`slic prep flow` of a folder into a new store."""
    options = ["--store", str(store), "--engine", ENGINE, "--workers", str(workers), "--json"]
    return run_measured([sys.executable, "-m", "slic.cli", "prep", "flow", str(videos), *options])


def opencv_pool(videos: Sequence[Path], out: Path, workers: int) -> Measured:
    """The peer, from the same videos into a new folder."""
    script = Path(__file__).with_name("peer_flow.py")
    options = ["--workers", str(workers), "--out", str(out)]
    return run_measured([sys.executable, str(script), *options, *map(str, videos)])


def engine_alone(job: tuple[Path, str]) -> tuple[int, float]:
    """(pairs, seconds) of the engine on one stored video, its frames already in memory."""
    path, video = job
    store = ClipStore(path)
    gray = to_gray(store.read(video, 0, store.entry(video).frames or 0))
    tvl1_flow(gray[:2], engine=ENGINE)  # a process loads the compiled code once
    begin = time.perf_counter()
    tvl1_flow(gray, engine=ENGINE)
    return len(gray) - 1, time.perf_counter() - begin


def mean_error(store: ClipStore, videos: Sequence[Path]) -> float:
    """Mean end-point error of stored flow from the peer's, cut at the store's bound, in pixels."""
    errors = []
    for video in videos[:COMPARED_VIDEOS]:
        bound = store.flow_bound(video.name)
        theirs = np.stack(list(islice(flows(video), COMPARED_PAIRS)))
        ours = store.read_flow(video.name, 0, len(theirs))
        errors.append(np.linalg.norm(ours - np.clip(theirs, -bound, bound), axis=-1).mean())
    return float(np.mean(errors))


def side(name: str, pairs: int, took: Measured) -> Row:
    return {
        "side": name,
        "pairs": pairs,
        "seconds": took.seconds,
        "pairs_per_s": pairs / took.seconds,
        "cpu_seconds": took.cpu_seconds,
        "peak_mb": took.peak_bytes / MB,
    }


def compare(files: Sequence[Path], folder: Path, workers: int) -> dict[str, Any]:
    """Both sides and the engine alone; rows, the share of time outside the engine, the error."""
    videos = linked(files, folder / "videos")
    tvl1_flow(drawn_video(0, 2), engine=ENGINE)  # compiles, or finds it compiled
    say(f"{len(videos)} videos: slic")
    ours = slic_prep_flow(folder / "videos", folder / "flow.zarr", workers)
    say("OpenCV")
    theirs = opencv_pool(videos, folder / "jpegs", workers)
    say("slic's engine alone")
    store = ClipStore(folder / "flow.zarr")
    jobs = [(store.path, video) for video in store.ids]
    done = list(run_jobs(engine_alone, jobs, workers=min(workers, len(jobs))))
    pairs, busy = (sum(column) for column in zip(*done, strict=True))
    alone = busy / min(workers, len(jobs))
    rows = [
        side("OpenCV pool", json.loads(theirs.stdout)["pairs"], theirs),
        side("slic prep flow", pairs, ours),
        side("slic's engine alone", pairs, Measured(seconds=alone)),
    ]
    for row in rows:
        row["ratio"] = row["pairs_per_s"] / rows[0]["pairs_per_s"]
    rows[2] |= {"cpu_seconds": None, "peak_mb": None}
    return {
        "sides": rows,
        "ratio": rows[1]["ratio"],
        "outside_engine": 1 - alone / ours.seconds,
        "error_px": mean_error(store, videos),
    }


def memory(lengths: Sequence[int], size: tuple[int, int], folder: Path) -> list[Row]:
    """Peak memory of `slic prep flow` on one video of each length, by one worker."""
    rows = []
    for frames in lengths:
        work = folder / str(frames)
        draw_dataset(work / "drawn", actions=1, groups=2, clips=1, frames=frames, size=size)
        linked([next((work / "drawn").rglob("*.avi"))], work / "videos")
        took = slic_prep_flow(work / "videos", work / "flow.zarr", 1)
        peak = took.peak_bytes / MB
        rows.append({"frames": frames, "seconds": took.seconds, "peak_mb": peak})
    return rows


def drawn_files(folder: Path, *, quick: bool) -> list[Path]:
    """Generate videos like the demo's."""
    some = {"actions": 2, "groups": 2, "clips": 1, "frames": 12, "size": (64, 48)}
    more = {"actions": 10, "groups": 2, "clips": 1, "frames": 40, "size": (170, 128)}
    draw_dataset(folder, **(some if quick else more))
    return video_files([folder])


def show_memory(*, quick: bool, as_json: bool) -> None:
    """Measure and print memory by length; `ratio` compares the longest video with the shortest."""
    lengths, size = (QUICK_LENGTHS, (64, 48)) if quick else (LENGTHS, (128, 96))
    with tempfile.TemporaryDirectory() as folder:
        rows = memory(lengths, size, Path(folder))
    facts = machine(workers=1, size=f"{size[0]}x{size[1]}", slic=engine_version(ENGINE))
    if as_json:
        show_json(facts, lengths=rows, ratio=rows[-1]["peak_mb"] / rows[0]["peak_mb"])
    else:
        show(rows, MEMORY_COLUMNS, facts)


def show_comparison(
    files: Sequence[Path], *, workers: int, quick: bool, as_json: bool
) -> dict[str, Any]:
    """Measure and print both sides."""
    with tempfile.TemporaryDirectory() as folder:
        files = files or drawn_files(Path(folder) / "drawn", quick=quick)
        found = compare(files, Path(folder), workers)
    facts = machine(workers=workers, videos=len(files), slic=engine_version(ENGINE))
    if as_json:
        show_json(facts, **found)
        return found
    show(found["sides"], COLUMNS, facts)
    print(f"slic's time outside its engine: {found['outside_engine']:.0%}")
    print(f"mean difference of stored flow from OpenCV's flow: {found['error_px']:.3f} px")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO_OR_FOLDER")
    parser.add_argument("--quick", action="store_true", help="few small videos; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--memory", action="store_true", help="peak memory by length of video")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.memory:
        show_memory(quick=options.quick, as_json=options.json)
        return
    found = show_comparison(
        video_files(options.videos),
        workers=options.workers,
        quick=options.quick,
        as_json=options.json,
    )
    if options.quick and found["error_px"] > LARGEST_ERROR:
        sys.exit(f"stored flow differs from OpenCV's by more than {LARGEST_ERROR} px")


if __name__ == "__main__":
    main()
