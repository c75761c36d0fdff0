"""The child process that decodes: `python -m slic.decode.child`, driven by `slic.decode.guarded`.

A request is a JSON line on stdin: path, reader, short side, maximum number of frames, and for the
reader `images` the files of each frame. The answer is a stream of messages, each a JSON header
after its length; a header with `frames` is followed by that many raw frames. The last header has
`end` or `error`.
"""

import contextlib
import gc
import json
import os
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from slic.decode.containers import error_line, read_video
from slic.decode.pictures import read_pictures
from slic.errors import DecodeError
from slic.runtime.signals import die_with_parent

BLOCK_FRAMES = 16
MEMORY_BYTES = 4 * 2**30  # of address space; 8K video takes 0.9 GiB, half of it resident

Block = NDArray[np.uint8]


def fitted_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Return height and width scaled so that the short side is at most `short_side`."""
    shorter = min(height, width)
    if shorter <= short_side:
        return height, width
    return (
        max(1, round(height * short_side / shorter)),
        max(1, round(width * short_side / shorter)),
    )


def _resized(frames: Iterator[Block], short_side: int) -> Iterator[Block]:
    """Yield frames at the stored size, which is that of the first frame, resized."""
    import cv2

    cv2.setNumThreads(1)
    size: tuple[int, int] | None = None
    for frame in frames:
        size = size or fitted_size(frame.shape[0], frame.shape[1], short_side=short_side)
        if frame.shape[:2] != size:
            frame = np.asarray(
                cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA), np.uint8
            )
        yield np.ascontiguousarray(frame)


def _send(out: BinaryIO, header: dict[str, Any], block: Block | None = None) -> None:
    data = json.dumps(header).encode()
    out.write(struct.pack("<I", len(data)) + data)
    if block is not None:
        out.write(block.tobytes())
    out.flush()


def _send_block(out: BinaryIO, frames: list[Block], about: dict[str, Any]) -> None:
    height, width, channels = frames[0].shape
    header = {"frames": len(frames), "height": height, "width": width, "channels": channels}
    header |= {"promised": about["promised"], "fps": about["fps"]}
    _send(out, header, np.stack(frames))


def _answer(out: BinaryIO, request: dict[str, Any]) -> None:
    about: dict[str, Any] = {"fps": 0.0, "promised": 0, "remark": None}
    if request["reader"] == "images":
        about["promised"] = len(request["files"])
        frames = read_pictures(request["files"])
    else:
        frames = read_video(request["path"], about)
    frames = islice(frames, request["most"])
    block: list[Block] = []
    count = 0
    for frame in _resized(frames, request["short_side"]):
        block.append(frame)
        count += 1
        if len(block) == BLOCK_FRAMES:
            _send_block(out, block, about)
            block = []
    if block:
        _send_block(out, block, about)
    if not count:
        raise DecodeError("no frame decodes")
    _send(out, {"end": True, **about})


def main() -> None:
    """Answer requests until stdin is closed."""
    die_with_parent()
    # Libraries print to stdout and stderr, so answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # If memory runs out, the kernel shall kill this process, not its parent.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    buffered = os.fdopen(os.dup(answers.fileno()), "wb", buffering=1 << 20)
    for line in sys.stdin:
        try:
            _answer(buffered, json.loads(line))
        # Any error becomes the reason for this video; the process goes on.
        except Exception as error:
            _send(buffered, {"error": error_line(error)})
        gc.collect()  # PyAV's containers and frames are in reference cycles


if __name__ == "__main__":
    main()
