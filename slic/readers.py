"""The child process that decodes: `python -m slic.readers`, driven by slic.decode over pipes.

One request is a JSON line on stdin: path, reader, short side, and for the reader `images` the
files of each frame. The answer is a stream of messages, each a length-prefixed JSON header; a
header with `frames` is followed by that many raw frames. The last header has `end` or `error`.
"""

import contextlib
import ctypes
import json
import math
import os
import re
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from slic.errors import DecodeError
from slic.pictures import read_pictures

BLOCK_FRAMES = 16
MEMORY_BYTES = 12 * 2**30
PR_SET_PDEATHSIG = 1

Block = NDArray[np.uint8]


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent, so that a killed run leaves no children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def fitted_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Height and width with the short side at most `short_side`, aspect kept, never enlarged."""
    shorter = min(height, width)
    if shorter <= short_side:
        return height, width
    return (
        max(1, round(height * short_side / shorter)),
        max(1, round(width * short_side / shorter)),
    )


def _resized(frames: Iterator[Block], short_side: int) -> Iterator[Block]:
    """Frames at the stored size: that of the first frame, whatever comes later."""
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


def _decord_frames(path: str, about: dict[str, Any]) -> Iterator[Block]:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    video = decord.VideoReader(path, num_threads=1)
    about["fps"] = float(video.get_avg_fps())
    for start in range(0, len(video), BLOCK_FRAMES):
        yield from video.get_batch(range(start, min(start + BLOCK_FRAMES, len(video)))).asnumpy()


def _pyav_frames(path: str, about: dict[str, Any]) -> Iterator[Block]:
    import av

    count = 0
    try:
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise ValueError("no video stream")
            stream = container.streams.video[0]
            about["fps"] = float(stream.average_rate or 0)
            for frame in container.decode(stream):
                quarters = round(frame.rotation / 90) % 4
                yield np.rot90(frame.to_ndarray(format="rgb24"), quarters)
                count += 1
    except (av.error.FFmpegError, ValueError) as error:
        # What decodes is kept: a header's frame count is no truth.
        if not count:
            raise
        about["remark"] = f"decoding stopped after {count} frames: {_one_line(error)}"


READERS = {"decord": _decord_frames, "pyav": _pyav_frames}


def _one_line(error: BaseException) -> str:
    """The telling part of an exception: decord's spans pages of C++ frames."""
    if isinstance(error, DecodeError):
        return str(error)[:200]
    said = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # decord says "[time] file:line: Check failed: expression (value vs. value) what is wrong",
    # where the value may be whatever lay in memory.
    text = re.sub(r"^.*Check failed: .*? vs\. \S+\) (ERROR )?", "", lines[0] if lines else "")
    return f"{type(error).__name__} {text}".strip()[:200]


def _send(out: BinaryIO, header: dict[str, Any], block: Block | None = None) -> None:
    data = json.dumps(header).encode()
    out.write(struct.pack("<I", len(data)) + data)
    if block is not None:
        out.write(block.tobytes())
    out.flush()


def _send_block(out: BinaryIO, frames: list[Block]) -> None:
    height, width, channels = frames[0].shape
    header = {"frames": len(frames), "height": height, "width": width, "channels": channels}
    _send(out, header, np.stack(frames))


def _answer(out: BinaryIO, request: dict[str, Any]) -> None:
    about: dict[str, Any] = {"fps": 0.0, "remark": None}
    if request["reader"] == "images":
        frames = read_pictures(request["files"])
    else:
        frames = READERS[request["reader"]](request["path"], about)
    block: list[Block] = []
    count = 0
    for frame in _resized(frames, request["short_side"]):
        block.append(frame)
        count += 1
        if len(block) == BLOCK_FRAMES:
            _send_block(out, block)
            block = []
    if block:
        _send_block(out, block)
    if not count:
        raise ValueError("no frame decodes")
    fps = about["fps"] if math.isfinite(about["fps"]) else 0.0
    _send(out, {"end": True, "fps": fps, "remark": about["remark"]})


def main() -> None:
    """Answer requests until stdin closes."""
    die_with_parent()
    # Libraries print to stdout and stderr; the answers go where they cannot.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    buffered = os.fdopen(os.dup(answers.fileno()), "wb", buffering=1 << 20)
    for line in sys.stdin:
        try:
            _answer(buffered, json.loads(line))
        # Whatever a reader raises on a broken file (decord derives from Exception only) is
        # this video's reason; the process goes on to the next.
        except Exception as error:
            _send(buffered, {"error": _one_line(error)})


if __name__ == "__main__":
    main()
