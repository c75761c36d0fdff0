"""The usual way to compute TV-L1 flow on CPUs: OpenCV in a pool of processes, JPEGs in folders.

    python benchmarks/peer_flow.py --workers 2 --out FOLDER VIDEO [VIDEO ...]

One video a process, one thread each; a grey JPEG for u and one for v of every pair. The peer
of prep_flow.py, in a file of its own so that its processes load nothing of slic's.
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

SHORT_SIDE = 128  # pixels
BOUND = 20.0  # pixels


def gray_frames(path: Path) -> Iterator[np.ndarray]:
    """Read a video's frames, with a short side of at most 128 pixels."""
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        frame = read[1]
        height, width = frame.shape[:2]
        scale = min(1.0, SHORT_SIDE / min(height, width))
        size = round(width * scale), round(height * scale)
        if size != (width, height):
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)


def flows(path: Path) -> Iterator[np.ndarray]:
    """Yield the flow from each frame of a video to the next, `(H, W, 2)` float32 in pixels."""
    for first, second in pairwise(gray_frames(path)):
        yield cv2.optflow.DualTVL1OpticalFlow_create().calc(first, second, None)


def levels(flow: np.ndarray) -> np.ndarray:
    """Quantise flow to the usual uint8: -20 px is 0, 20 px is 255."""
    return np.rint((np.clip(flow, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def write_flow(job: tuple[Path, Path]) -> int:
    """Write the flow of one video into a folder; return the number of pairs."""
    path, folder = job
    folder.mkdir(parents=True)
    count = 0
    for count, flow in enumerate(flows(path), start=1):
        for name, component in zip("uv", np.moveaxis(levels(flow), -1, 0), strict=True):
            cv2.imwrite(str(folder / f"{name}_{count:05d}.jpg"), component)
    return count


def one_thread() -> None:
    cv2.setNumThreads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    jobs = [(video, options.out / video.name) for video in options.videos]
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(options.workers, len(jobs)), one_thread) as pool:
        print(json.dumps({"pairs": sum(pool.imap_unordered(write_flow, jobs))}))


if __name__ == "__main__":
    main()
