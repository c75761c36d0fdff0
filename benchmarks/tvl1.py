"""TV-L1 flow on one core: slic's CPU engine against OpenCV's DualTVL1, same parameters.

    python benchmarks/tvl1.py [--quick] [--json] [VIDEO ...]

Both sides run in turn on the same pairs of frames, in one process on one thread, timed by CPU
time. Without videos it draws its own. --quick takes few pairs and only checks that the results
agree: mean end-point error at most 0.02 px.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numba
import numpy as np

from slic.prep.tvl1 import engine_version, quantise, tvl1_flow

SIZES = ((320, 240), (171, 128), (128, 96))  # width, height
WIDE_BOUND = 20.0  # pixels
LARGEST_ERROR = 0.02  # pixels


def drawn_video(seed: int, count: int) -> np.ndarray:
    """A texture that drifts, turns and grows under a disc moving the other way."""
    rng = np.random.default_rng(seed)
    texture = sum(
        cv2.GaussianBlur(rng.standard_normal((300, 400)).astype(np.float32), (0, 0), s) * s
        for s in (1.5, 4, 12)
    )
    texture = cv2.normalize(texture, None, 30, 220, cv2.NORM_MINMAX)
    frames = []
    for t in range(count):
        move = cv2.getRotationMatrix2D((200, 150), 0.8 * t, 1.2 + 0.01 * t)
        move[:, 2] += (2.3 * t - 40, -1.1 * t - 30)
        frame = cv2.warpAffine(texture, move, (320, 240), borderMode=cv2.BORDER_REFLECT)
        cv2.circle(frame, (280 - 5 * t, 60 + 4 * t), 35, float(40 + 30 * seed), -1)
        frames.append(frame + rng.normal(0, 2, frame.shape))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def decoded_video(path: Path, count: int) -> np.ndarray:
    """Gray frames from the middle of a video."""
    capture = cv2.VideoCapture(str(path))
    middle = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // 2 - count // 2, 0)
    frames: list[np.ndarray] = []
    for index in range(middle + count):
        found, frame = capture.read()
        if not found:
            break
        if index >= middle:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    if len(frames) < 2:
        sys.exit(f"{path}: fewer than 2 frames decode from its middle; give another video")
    return np.stack(frames)


def resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


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
        "times_faster": seconds["opencv"] / seconds["cpu"],
        "error_px": float(np.concatenate(errors).mean()),
        "worst_error_px": float(np.concatenate(errors).max()),
        "within_1_level": float(np.concatenate(near).mean()),
        "within_1_level_20px": float(np.concatenate(wide).mean()),
        "worst_pair_20px": float(np.concatenate(wide).min()),
    }


def machine() -> dict:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    versions = {"python": platform.python_version(), "numba": numba.__version__}
    engines = {"slic": engine_version("cpu"), "opencv": cv2.__version__}
    return {"machine": model, "threads": 1, **engines, **versions}


def show(rows: list[dict]) -> None:
    head = "size     pairs  OpenCV ms  slic ms   ratio  error px  worst px"
    print(head + "  within 1 level: short/12    20 px  worst pair")
    for r in rows:
        print(
            f"{r['size']:8} {r['pairs']:5d}  {r['opencv_ms']:9.1f}  {r['slic_ms']:7.2f}"
            f"  {r['times_faster']:6.2f}  {r['error_px']:8.4f}  {r['worst_error_px']:8.4f}"
            f"  {r['within_1_level']:24.2%}  {r['within_1_level_20px']:7.2%}"
            f"  {r['worst_pair_20px']:10.2%}"
        )
    print(", ".join(f"{key} {value}" for key, value in machine().items()))


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
    if options.json:
        print(json.dumps({**machine(), "sizes": rows}))
    else:
        show(rows)
    if options.quick and max(row["error_px"] for row in rows) > LARGEST_ERROR:
        sys.exit(f"the engines differ by more than {LARGEST_ERROR} px")


if __name__ == "__main__":
    main()
