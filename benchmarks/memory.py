"""Peak memory of `slic prep frames`, `slic train` and `slic eval retrieve` by number of videos.

    python benchmarks/memory.py [--quick] [--json] [--videos 100,1000,10000]

Videos of 8 frames at 32x24: a few dozen files are drawn, and linked under as many names as asked
for, in up to ten class folders. So many videos are prepared into a store, trained on for one epoch
(preset cpu-small, clips of 2 frames at 8x8, RGB alone, a clustering before and after) and
evaluated, each by one worker process. Peak memory is of all processes of a command together;
growth is against the fewest videos. Exits if a stage did not handle all videos.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Column, Row, machine, refuse, say, show, show_json, video_files
from measured import Measured, run_measured

from slic.demo.drawn import draw_dataset

VIDEOS, QUICK_VIDEOS = (100, 1_000, 10_000), (4, 12)
CLASSES = 10
DRAWN = {"actions": 4, "groups": 4, "clips": 2, "frames": 8, "size": (32, 24)}
QUICK_DRAWN = {**DRAWN, "actions": 2, "groups": 2, "clips": 1}
BATCH = 48
SETTINGS = f"""
frames = 2
stride = 1
size = 8
epochs = 1
warmup_epochs = 0
cluster_every = 1
batch_size = {BATCH}
retrieval_clips = 1
"""
MB = 1e6
COLUMNS = (
    Column("stage", "stage"),
    Column("videos", "videos", ","),
    Column("seconds", "seconds", ".1f"),
    Column("peak MB", "peak_mb", ".0f"),
    Column("growth MB", "growth_mb", ".1f"),
)


def linked(files: Sequence[Path], count: int, folder: Path) -> None:
    """Make `count` videos in class folders as hard links to a few files, two or more per class."""
    classes = min(CLASSES, count // 2)
    for number in range(count):
        target = folder / f"class {number % classes}" / f"{number:06d}.avi"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], target)


def slic(*arguments: str) -> tuple[Measured, dict[str, Any]]:
    """Run a command of slic with one worker, and return its measurements and output."""
    options = ["--workers", "1", "--json"]
    took = run_measured([sys.executable, "-m", "slic.cli", *arguments, *options])
    return took, json.loads(took.stdout)


def stages(count: int) -> list[Row]:
    """Run all stages on `count` videos below `videos/`, in the current folder."""
    say(f"{count:,} videos: prep frames")
    prepared, store = slic("prep", "frames", "videos", "--store", "videos.zarr")
    say("train")
    how = ["--preset", "cpu-small", "--config", "settings.toml", "--no-flow", "--device", "cpu"]
    trained, run = slic("train", "videos.zarr", *how)
    say("eval retrieve")
    evaluated, found = slic("eval", "retrieve", "--k", "1", "--device", "cpu")
    steps = -(-found["gallery"] // BATCH)
    checks = {
        "prep frames": (store["written"], store["failed"]) == (count, 0),
        "train": (run["epochs"], run["steps"]) == (1, steps),
        "eval retrieve": found["queries"] + found["gallery"] == count,
    }
    return [
        {
            "stage": stage,
            "videos": count,
            "seconds": took.seconds,
            "peak_mb": took.peak_bytes / MB,
            "whole": whole,
        }
        for (stage, whole), took in zip(checks.items(), (prepared, trained, evaluated), strict=True)
    ]


def measure(counts: Sequence[int], folder: Path, *, quick: bool) -> list[Row]:
    """Run all stages for each number of videos; growth is relative to the first number."""
    draw_dataset(folder / "drawn", **(QUICK_DRAWN if quick else DRAWN))
    files = video_files([folder / "drawn"])
    rows: list[Row] = []
    for count in counts:
        work = folder / str(count)
        linked(files, count, work / "videos")
        (work / "settings.toml").write_text(SETTINGS)
        with contextlib.chdir(work):
            rows += stages(count)
    first = {row["stage"]: row["peak_mb"] for row in reversed(rows)}
    for row in rows:
        row["growth_mb"] = row["peak_mb"] - first[row["stage"]]
    return sorted(rows, key=lambda row: list(first)[::-1].index(row["stage"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few videos; check that all are processed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--videos", metavar="N,N,...", help="numbers of videos (default 100,1000,10000)"
    )
    options = parser.parse_args()
    counts = QUICK_VIDEOS if options.quick else VIDEOS
    if options.videos:
        try:
            counts = tuple(sorted({int(number) for number in options.videos.split(",")}))
        except ValueError:
            refuse(f"--videos {options.videos}: give whole numbers with commas, such as 100,10000")
        if counts[0] < min(QUICK_VIDEOS):
            refuse(f"--videos {options.videos}: each must be at least {min(QUICK_VIDEOS)}")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(counts, Path(folder), quick=options.quick)
    facts = machine(workers=1)
    if options.json:
        show_json(facts, stages=rows)
    else:
        show(rows, COLUMNS, facts)
    broken = [f"{row['stage']} of {row['videos']:,}" for row in rows if not row["whole"]]
    if broken:
        sys.exit(f"not all videos were processed: {', '.join(broken)}")


if __name__ == "__main__":
    main()
