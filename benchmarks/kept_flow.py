"""OpenCV's flow of some frames, saved to a file for a machine whose OpenCV has no TV-L1.

    python benchmarks/kept_flow.py FILE.npz [VIDEO ...]

The file holds two pairs of frames of up to four videos at 320x240 and 171x128, and their flow,
rounded to 1/1024 px: about 3 MB. Without videos it draws its own. gpu_day.py compares a GPU with
it.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from common import refuse, resized
from tvl1_gpu import compared, opencv_flow, some_videos

SIZES = ((320, 240), (171, 128))  # width, height
VIDEOS = 4
STEPS_A_PIXEL = 1024
Kept = tuple[list[np.ndarray], np.ndarray | None]  # clips of one size, OpenCV's flow of all pairs


def keep(path: Path, videos: Sequence[np.ndarray]) -> None:
    """Write the frames, and OpenCV's flow of them, at each size."""
    content = {}
    for number, size in enumerate(SIZES):
        clips = compared([resized(video, size) for video in videos[:VIDEOS]])
        flow = opencv_flow(clips)
        if flow is None:
            refuse("this OpenCV has no TV-L1; install opencv-contrib-python-headless")
        content[f"frames_{number}"] = np.stack(clips)
        content[f"flow_{number}"] = np.rint(flow * STEPS_A_PIXEL).clip(-32768, 32767).astype("<i2")
    np.savez_compressed(path, **content)


def read_kept(path: Path) -> Iterator[Kept]:
    """Read clips and OpenCV's flow of them, size by size."""
    with np.load(path) as file:
        for number in range(len(SIZES)):
            flow = file[f"flow_{number}"].astype(np.float32) / STEPS_A_PIXEL
            yield list(file[f"frames_{number}"]), flow


def main() -> None:
    """Parse the command line, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.npz")
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    options = parser.parse_args()
    keep(options.file, some_videos(options.videos))


if __name__ == "__main__":
    main()
