"""TV-L1 flow on a GPU: pairs a second of slic's engines, and how near to the limit they are.

    python benchmarks/tvl1_gpu.py [--json] [VIDEO ...]
    python benchmarks/tvl1_gpu.py --quick [--json]

For each size and number of pairs a call: pairs/s of `tvl1_flow` (frames in, float32 flow out), of
the call that `slic prep flow` makes (frames in, uint8 levels out) and of the solver alone on
the device; each a median over whole calls. The limit is the measured bandwidth of a copy on the
device over 30 bytes (15 float32 read or written in a sweep of two) for every pixel and iteration
really done; a solver that keeps its data in cache may pass it. Then the mean end-point errors from
OpenCV and from the CPU engine. Without videos it draws its own. --quick needs no GPU: Triton
interprets the kernels on a tiny pair, which only checks that the results agree.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from common import (
    Column,
    Row,
    decoded_video,
    drawn_video,
    machine,
    refuse,
    resized,
    say,
    show,
    show_json,
)
from tvl1 import LARGEST_ERROR, SIZES, WIDE_BOUND, agreement

from slic.prep.tvl1 import Tvl1Parameters, engine_version, tvl1_flow

DEVICE = "cuda:0"
PAIRS_A_CALL = {"cuda": (64, 256, 1024, 4096), "torch": (16, 64, 256)}
REPEATS = 3
FRAMES = 33  # of each video
COMPARED_VIDEOS, COMPARED_FRAMES = 8, 3
BYTES_PER_PIXEL_ITERATION = 30
COPIED_BYTES, COPIES = 2**31, 10
COLUMNS = (
    Column("engine", "engine"),
    Column("size", "size"),
    Column("pairs a call", "pairs"),
    Column("at once", "at_once"),
    Column("tvl1_flow /s", "pairs_per_s", ".0f"),
    Column("levels /s", "levels_per_s", ".0f"),
    Column("on device /s", "on_device_per_s", ".0f"),
    Column("of limit", "share_of_limit", ".1%"),
    Column("peak MB", "peak_mb", ".0f"),
)
ERROR_COLUMNS = (
    Column("engine", "engine"),
    Column("size", "size"),
    Column("pairs", "pairs"),
    Column("px from OpenCV", "opencv_error_px", ".4f"),
    Column("px from cpu", "cpu_error_px", ".4f"),
    Column("within 1 level, 20 px", "within_1_level_20px", ".2%"),
    Column("worst pair", "worst_pair_20px", ".2%"),
)


def seconds(work: Callable[[], object]) -> float:
    """Median time of a call, the device's work included, after a first one."""
    took = []
    for _ in range(1 + REPEATS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a large copy on the device."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)

    def copies() -> None:
        for _ in range(COPIES):
            target.copy_(source)

    return 2 * COPIED_BYTES * COPIES / seconds(copies)


def swung(frames: np.ndarray, pairs: int) -> np.ndarray:
    """Frames played forth and back until there are so many pairs, none of them still or cut."""
    there_and_back = np.concatenate([frames, frames[-2:0:-1]])
    return there_and_back[np.arange(pairs + 1) % len(there_and_back)]


def shared_out(videos: Sequence[np.ndarray], pairs: int) -> list[np.ndarray]:
    """So many pairs from as many of the videos as give at least 8 each."""
    parts = max(1, min(len(videos), pairs // 8))
    counts = [len(part) for part in np.array_split(np.arange(pairs), parts)]
    return [swung(video, count) for video, count in zip(videos, counts, strict=False)]


def on_device(engine: str, blocks: Sequence[np.ndarray]) -> tuple[float, float]:
    """Pairs a second of the solver alone, and the pixel updates of a pair."""
    from slic.prep.tvl1 import cuda_engine, torch_engine

    solve = {"cuda": cuda_engine, "torch": torch_engine}[engine].solve
    frames = torch.from_numpy(np.concatenate(blocks)).to(DEVICE)
    last = np.cumsum([len(block) for block in blocks]) - 1
    chosen = np.setdiff1d(np.arange(len(frames)), last).astype(np.int32)
    firsts = torch.from_numpy(chosen).to(DEVICE)
    took = seconds(lambda: solve(frames, firsts, Tvl1Parameters()))
    done = solve(frames, firsts, Tvl1Parameters()).pixel_iterations
    return len(firsts) / took, float(done.double().mean())


def measure(engine: str, videos: Sequence[np.ndarray], pairs: int, bandwidth: float) -> Row:
    """One engine on so many pairs a call, all of one size."""
    from slic.prep.tvl1.device import DeviceSolver

    height, width = videos[0].shape[1:]
    solver = DeviceSolver(engine, DEVICE, Tvl1Parameters(), say=say)
    at_once = min(pairs, solver.pairs_at_once(height, width))
    blocks, clip = shared_out(videos, pairs), swung(videos[0], pairs)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    flow_s = seconds(lambda: tvl1_flow(clip, engine=engine, device=DEVICE))
    levels_s = seconds(lambda: solver.levels(blocks, min(height, width) / 12))
    peak = torch.cuda.max_memory_allocated()
    rate, updates = on_device(engine, shared_out(videos, at_once))
    return {
        "engine": engine,
        "size": f"{width}x{height}",
        "pairs": pairs,
        "at_once": at_once,
        "pairs_per_s": pairs / flow_s,
        "levels_per_s": pairs / levels_s,
        "on_device_per_s": rate,
        "pixel_iterations_a_pair": updates,
        "share_of_limit": rate * updates * BYTES_PER_PIXEL_ITERATION / bandwidth,
        "peak_mb": peak / 1e6,
    }


def opencv_flow(clips: Sequence[np.ndarray]) -> np.ndarray | None:
    """OpenCV's flow of all pairs; None where OpenCV is without its further modules."""
    if not hasattr(cv2, "optflow"):
        return None
    return np.concatenate([tvl1_flow(clip, engine="opencv") for clip in clips])


def errors(engine: str, device: str, clips: Sequence[np.ndarray], opencv: np.ndarray | None) -> Row:
    """An engine's flow against that of OpenCV, if known, and of the CPU engine."""
    ours = np.concatenate([tvl1_flow(c, engine=engine, device=device) for c in clips])
    cpu = np.concatenate([tvl1_flow(clip, engine="cpu") for clip in clips])
    near = None if opencv is None else agreement(ours, opencv, WIDE_BOUND)
    height, width = clips[0].shape[1:]
    return {
        "engine": engine,
        "size": f"{width}x{height}",
        "pairs": len(ours),
        "opencv_error_px": None if opencv is None else apart_px(ours, opencv),
        "cpu_error_px": apart_px(ours, cpu),
        "within_1_level_20px": None if near is None else float(near.mean()),
        "worst_pair_20px": None if near is None else float(near.min()),
    }


def apart_px(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean end-point error."""
    return float(np.linalg.norm(ours - theirs, axis=-1).mean())


def steadiness(device: str, frames: np.ndarray, **parameters: float) -> Row:
    """Whether the kernels' flow is the same once more, and that of a part the part of the whole.

    A race between the threads of a program would differ from run to run.
    """
    flow = partial(tvl1_flow, engine="cuda", device=device, **parameters)
    whole, again = flow(frames), flow(frames)
    begin, end = len(frames) // 2, len(frames) // 2 + max(2, len(frames) // 20)
    part = flow(frames[begin:end])
    return {
        "size": f"{frames.shape[2]}x{frames.shape[1]}",
        "pairs": len(whole),
        "mean_px": float(np.linalg.norm(whole, axis=-1).mean()),
        "same_again": np.array_equal(again, whole),
        "part_as_whole": np.array_equal(part, whole[begin : end - 1]),
    }


def tiny_clip(count: int = 2) -> np.ndarray:
    """What an interpreter can do in seconds; it moves by 1.3 px a frame."""
    return resized(drawn_video(0, 6 * count)[::6], (28, 20))


def interpreted() -> tuple[list[Row], list[Row], Row]:
    """Errors of both engines on a tiny pair, on the CPU."""
    clips = [tiny_clip()]
    found = [errors(engine, "cpu", clips, opencv_flow(clips)) for engine in ("cuda", "torch")]
    return [], found, {"triton": f"{version('triton')}, interpreted"}


def some_videos(paths: Sequence[Path]) -> list[np.ndarray]:
    """Frames of the videos given, else of drawn ones."""
    videos = [decoded_video(path, FRAMES) for path in paths]
    return videos or [drawn_video(seed, FRAMES) for seed in range(4)]


def speeds(
    clips: Sequence[np.ndarray], pairs_a_call: Mapping[str, Sequence[int]], bandwidth: float
) -> Iterator[Row]:
    """A row for each engine and number of pairs a call, of clips of one size."""
    height, width = clips[0].shape[1:]
    for engine, counts in pairs_a_call.items():
        for pairs in counts:
            say(f"{engine}, {width}x{height}, {pairs} pairs a call")
            yield measure(engine, clips, pairs, bandwidth)


def measured(paths: Sequence[Path]) -> tuple[list[Row], list[Row], Row]:
    """Speeds, errors and the device."""
    videos, bandwidth = some_videos(paths), copy_bandwidth()
    rows, found = [], []
    for size in SIZES:
        clips = [resized(video, size) for video in videos]
        rows += speeds(clips, PAIRS_A_CALL, bandwidth)
        some = compared(clips)
        opencv = opencv_flow(some)
        found += [errors(engine, DEVICE, some, opencv) for engine in PAIRS_A_CALL]
    facts = {
        "device": torch.cuda.get_device_name(DEVICE),
        "copy_gb_per_s": round(bandwidth / 1e9),
        "triton": version("triton"),
    }
    return rows, found, facts


def compared(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The few frames of which flow is compared."""
    return [clip[:COMPARED_FRAMES] for clip in clips[:COMPARED_VIDEOS]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--quick", action="store_true", help="check agreement without a GPU")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.quick:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported
    elif not torch.cuda.is_available():
        refuse("there is no CUDA device here; --quick checks the kernels without one")
    rows, found, about = interpreted() if options.quick else measured(options.videos)
    engines = {"slic": engine_version("cuda"), "torch": torch.__version__}
    facts = machine(**about, **engines)
    if options.json:
        show_json(facts, speeds=rows, errors=found)
    else:
        if rows:
            show(rows, COLUMNS, {})
        show(found, ERROR_COLUMNS, facts)
    if options.quick and max(row["opencv_error_px"] for row in found) > LARGEST_ERROR:
        sys.exit(f"an engine differs from OpenCV by more than {LARGEST_ERROR} px")


if __name__ == "__main__":
    main()
