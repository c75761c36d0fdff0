"""TV-L1 flow on one core: slic's CPU engine against OpenCV's DualTVL1, same parameters.

    python benchmarks/tvl1.py [--quick] [--json] [VIDEO ...]

Both sides run in turn on the same pairs of frames, in one process on one thread, timed by CPU
time. Without videos it draws its own. --quick takes few pairs and only checks that the results
agree: mean end-point error at most 0.02 px.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numba
import numpy as np
from common import Column, decoded_video, drawn_video, machine, resized, show, show_json

from slic.cache import quantise
from slic.prep.tvl1 import engine_version, tvl1_flow

SIZES = ((320, 240), (171, 128), (128, 96))  # width, height
WIDE_BOUND = 20.0  # pixels
LARGEST_ERROR = 0.02  # pixels
COLUMNS = (
    Column("size", "size"),
    Column("pairs", "pairs"),
    Column("OpenCV ms", "opencv_ms", ".1f"),
    Column("slic ms", "slic_ms", ".2f"),
    Column("ratio", "ratio", ".2f"),
    Column("error px", "error_px", ".4f"),
    Column("worst px", "worst_error_px", ".4f"),
    Column("within 1 level: short/12", "within_1_level", ".2%"),
    Column("20 px", "within_1_level_20px", ".2%"),
    Column("worst pair", "worst_pair_20px", ".2%"),
)


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def agreement(ours: np.ndarray, theirs: np.ndarray, bound: float) -> np.ndarray:
    """Share of quantised values within one level, for each pair."""
    levels = quantise(ours, bound).astype(int) - quantise(theirs, bound)
    return (np.abs(levels) <= 1).mean(axis=(1, 2, 3))


def measure(videos: list[np.ndarray], size: tuple[int, int]) -> dict:
    """Both engines on all videos at one size, one after the other for each video."""
    seconds = {"cpu": 0.0, "opencv": 0.0}
    errors, near, wide = [], [], []
    tvl1_flow(resized(videos[0][:2], size))  # compiles, or reads the cache
    for video in videos:
        frames = resized(video, size)
        flows = {}
        for engine in ("opencv", "cpu"):
            spent, flows[engine] = timed(lambda e=engine, f=frames: tvl1_flow(f, engine=e))
            seconds[engine] += spent
        ours, theirs = flows["cpu"], flows["opencv"]
        errors.append(np.linalg.norm(ours - theirs, axis=-1).mean(axis=(1, 2)))
        near.append(agreement(ours, theirs, min(size) / 12))
        wide.append(agreement(ours, theirs, WIDE_BOUND))
    pairs = sum(len(video) - 1 for video in videos)
    return {
        "size": f"{size[0]}x{size[1]}",
        "pairs": pairs,
        "opencv_ms": 1000 * seconds["opencv"] / pairs,
        "slic_ms": 1000 * seconds["cpu"] / pairs,
        "ratio": seconds["opencv"] / seconds["cpu"],
        "error_px": float(np.concatenate(errors).mean()),
        "worst_error_px": float(np.concatenate(errors).max()),
        "within_1_level": float(np.concatenate(near).mean()),
        "within_1_level_20px": float(np.concatenate(wide).mean()),
        "worst_pair_20px": float(np.concatenate(wide).min()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--quick", action="store_true", help="few pairs; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--frames", type=int, default=5, help="frames of each video (default 5)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    count = 2 if options.quick else max(options.frames, 2)
    videos = [decoded_video(path, count) for path in options.videos]
    videos = videos or [drawn_video(seed, count) for seed in range(1 if options.quick else 4)]
    rows = [measure(videos, size) for size in SIZES]
    facts = machine(threads=1, slic=engine_version("cpu"), numba=numba.__version__)
    if options.json:
        show_json(facts, sizes=rows, ratio=min(row["ratio"] for row in rows))
    else:
        show(rows, COLUMNS, facts)
    if options.quick and max(row["error_px"] for row in rows) > LARGEST_ERROR:
        sys.exit(f"the engines differ by more than {LARGEST_ERROR} px")


if __name__ == "__main__":
    main()
