"""Flow by the GPU's engines: how near it is to others', that it has no races, how fast it is."""

import os
from collections.abc import Iterator

import cv2
import numpy as np
import tvl1_gpu
from common import Column, Row, resized, show
from kept_flow import Kept, read_kept
from tvl1 import LARGEST_ERROR

from gpu_parts import Day

SIZES = ((320, 240), (171, 128))
SPEEDS = {"cuda": (256, 1024), "torch": (64,)}  # pairs a call by engine
RACED_PAIRS = 200
# For an interpreter: few iterations of tiny frames.
INTERPRETED = {"warps": 1, "nscales": 1, "outer_iterations": 2}
SHOWN = ("engine", "size", "pairs", "opencv_error_px", "cpu_error_px", "worst_pair_20px")
SPEED_SHOWN = ("engine", "size", "pairs", "pairs_per_s", "levels_per_s", "on_device_per_s")
SPEED_SHOWN += ("share_of_limit",)
STEADY_COLUMNS = (
    Column("kernels alone", "size"),
    Column("pairs", "pairs"),
    Column("same again", "same_again"),
    Column("part as whole", "part_as_whole"),
)


def agreement(day: Day) -> Iterator[Row]:
    """Measure errors against OpenCV and the CPU engine, then repeat whole and in parts."""
    cv2.setNumThreads(1)
    if day.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported
    found: list[Row] = []
    for clips, opencv in _compared(day):
        found += [tvl1_gpu.errors(e, day.device, clips, opencv) for e in ("cuda", "torch")]
        yield {"errors": found, "figures": _error_figures(found)}
    steady = []
    parameters = INTERPRETED if day.rehearse else {}
    for frames in _raced(day):
        steady.append(tvl1_gpu.steadiness(day.device, frames, **parameters))
        same = all(row["same_again"] and row["part_as_whole"] for row in steady)
        races = "no races" if same else "RACES"
        yield {"steadiness": steady, "figures": [*_error_figures(found), races]}
    show(found, [c for c in tvl1_gpu.ERROR_COLUMNS if c.key in SHOWN], {})
    show(steady, STEADY_COLUMNS, {})
    # Not by `>`: what is no number is not near.
    if not all(_near(row) for row in found):
        raise SystemExit(f"an engine differs from another by more than {LARGEST_ERROR} px")
    if not same:
        raise SystemExit("the kernels' flow differs from run to run, or in a part")


def _near(row: Row) -> bool:
    errors = [row["cpu_error_px"], row["opencv_error_px"]]
    return all(error <= LARGEST_ERROR for error in errors if error is not None)


def _error_figures(found: list[Row]) -> list[str]:
    kernels = [row for row in found if row["engine"] == "cuda"]
    cpu = max(row["cpu_error_px"] for row in kernels)
    opencv = [row["opencv_error_px"] for row in kernels if row["opencv_error_px"] is not None]
    theirs = f"{max(opencv):.4f} px from OpenCV" if opencv else "OpenCV has no TV-L1 here"
    return [f"{cpu:.4f} px from the CPU engine", theirs]


def _compared(day: Day) -> Iterator[Kept]:
    """Return clips of one size, and OpenCV's flow of them, if it was kept."""
    if day.rehearse:
        clips = [tvl1_gpu.tiny_clip()]
        yield clips, tvl1_gpu.opencv_flow(clips)
        return
    if day.kept_flow:
        yield from read_kept(day.kept_flow)
        return
    videos = tvl1_gpu.some_videos(day.videos)
    for size in SIZES:
        clips = tvl1_gpu.compared([resized(video, size) for video in videos])
        yield clips, tvl1_gpu.opencv_flow(clips)


def _raced(day: Day) -> Iterator[np.ndarray]:
    if day.rehearse:
        yield tvl1_gpu.tiny_clip(5)
        return
    for size in SIZES:
        video = tvl1_gpu.some_videos(day.videos[:1])[0]
        yield tvl1_gpu.swung(resized(video, size), RACED_PAIRS)


def flow(day: Day) -> Iterator[Row]:
    """Measure pairs per second, and their share of the memory-bandwidth limit."""
    bandwidth, videos = tvl1_gpu.copy_bandwidth(), tvl1_gpu.some_videos(day.videos)
    rows: list[Row] = []
    for size in SIZES:
        clips = [resized(video, size) for video in videos]
        for row in tvl1_gpu.speeds(clips, SPEEDS, bandwidth):
            rows.append(row)
            yield {"speeds": rows, "copy_bytes_per_s": bandwidth, "figures": _fastest(rows)}
    show(rows, [c for c in tvl1_gpu.COLUMNS if c.key in SPEED_SHOWN], {})


def _fastest(rows: list[Row]) -> list[str]:
    """Return the fastest row of each size."""
    best = {
        size: max((r for r in rows if r["size"] == size), key=lambda r: r["levels_per_s"])
        for size in dict.fromkeys(row["size"] for row in rows)
    }
    return [
        f"{size}: {row['levels_per_s']:,.0f} pairs/s, {row['share_of_limit']:.0%} of the limit"
        for size, row in best.items()
    ]
