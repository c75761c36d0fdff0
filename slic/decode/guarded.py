"""Decode a video file, or a folder of images, in a child process that can be killed.

On a broken file, decoders may hang, crash or allocate all memory. So they run in a child process
with limits of time and memory.
"""

import contextlib
import json
import math
import os
import select
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slic.decode.containers import MOST_PIXELS
from slic.errors import DecodeError

Reader = Literal["pyav", "images"]
STALL_LIMIT_S = 60.0
TIME_LIMIT_S = 4 * 3600.0
CHILD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MOST_PIXELS),
}
LONGEST_HEADER = 1 << 16


@dataclass
class Decoding:
    """Facts about a video: `remark` is set after its last block, the others after the first.

    Attributes:
        fps: frames per second; 0 if the file does not record it.
        promised: number of frames according to the header, or of images; 0 if unknown.
        remark: why decoding stopped early, or None.
    """

    fps: float = 0.0
    promised: int = 0
    remark: str | None = None


class GuardedDecoder:
    """Decode videos in a child process, started when needed and replaced when it fails.

    Args:
        stall_limit_s: time without a block after which the child is killed, in seconds.
        time_limit_s: total time of waiting for the blocks of one video after which it is.
    """

    def __init__(
        self, *, stall_limit_s: float = STALL_LIMIT_S, time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        self.stall_limit_s = stall_limit_s
        self.time_limit_s = time_limit_s
        self._waited_s = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    def blocks(
        self,
        path: Path,
        *,
        reader: Reader,
        short_side: int,
        about: Decoding,
        files: Sequence[Sequence[Path]] = (),
        most: int | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield blocks of consecutive frames, `(n, H, W, 3)` uint8 RGB, n up to 16.

        Frames are rotated by the file's metadata, and resized so that the short side is at most
        `short_side` pixels.

        Args:
            path: the video file, or the folder of images.
            reader: `pyav` for video, `images` for images.
            short_side: longest short side, in pixels.
            about: is filled in.
            files: for `images`: the image of each frame, or its two images of u and v, which
                makes blocks of gray levels, `(n, H, W, 2)`.
            most: number of frames to read. None: all.

        Raises:
            DecodeError: the reader fails, crashes or stalls; the blocks so far are invalid.
        """
        request = {
            "path": os.path.abspath(path),
            "reader": reader,
            "short_side": short_side,
            "most": most,
            "files": [[os.path.abspath(file) for file in frame] for frame in files],
        }
        child = self._running()
        assert child.stdin is not None
        self._waited_s = 0.0
        finished = False
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            while True:
                header = self._header(child)
                if "error" in header:
                    finished = True
                    raise DecodeError(f"{reader}: {header['error']}")
                if "end" in header:
                    finished = True
                    about.fps, about.remark = header["fps"], header["remark"]
                    return
                shape = (header["frames"], header["height"], header["width"], header["channels"])
                about.promised, about.fps = header["promised"], header["fps"]
                data = self._exactly(child, int(np.prod(shape)))
                yield np.frombuffer(data, dtype=np.uint8).reshape(shape)
        except (BrokenPipeError, EOFError):
            raise DecodeError(f"{reader}: crashed") from None
        except TimeoutError:
            if self._waited_s >= self.time_limit_s:
                raise DecodeError(
                    f"{reader}: did not finish within {self.time_limit_s:g} s"
                ) from None
            raise DecodeError(f"{reader}: no frame within {self.stall_limit_s:g} s") from None
        finally:
            if not finished:
                self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "slic.decode.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **CHILD},
            )
            self._end = weakref.finalize(self, _end, self._child)
        return self._child

    def _header(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        (length,) = struct.unpack("<I", self._exactly(child, 4))
        if length > LONGEST_HEADER:
            raise EOFError
        try:
            return json.loads(self._exactly(child, length))
        except ValueError:  # the child's memory is corrupt
            raise EOFError from None

    def _exactly(self, child: subprocess.Popen[bytes], count: int) -> bytearray:
        assert child.stdout is not None
        handle = child.stdout.fileno()
        data = bytearray(count)
        view = memoryview(data)
        begin = time.monotonic()
        deadline = begin + min(self.stall_limit_s, self.time_limit_s - self._waited_s)
        waiting = select.poll()  # select.select fails on handles above 1023
        waiting.register(handle, select.POLLIN)
        filled = 0
        try:
            while filled < count:
                left = deadline - time.monotonic()
                if left <= 0 or not waiting.poll(math.ceil(left * 1000)):
                    raise TimeoutError
                got = os.readv(handle, [view[filled:]])
                if not got:
                    raise EOFError
                filled += got
        finally:
            self._waited_s += time.monotonic() - begin
        return data

    def close(self) -> None:
        """Kill the child, if there is one. Garbage collection of this object does the same."""
        if self._child is not None:
            self._end()
        self._child = None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def decode_video(path: str | os.PathLike[str], *, short_side: int = 128) -> NDArray[np.uint8]:
    """Decode all frames of a video in a guarded child process.

    Args:
        path: the video file.
        short_side: longest short side of the result, in pixels.

    Returns:
        Frames, `(T, H, W, 3)` uint8 RGB.

    Raises:
        DecodeError: the video does not decode; the message names the file.
    """
    decoder = GuardedDecoder()
    try:
        blocks = decoder.blocks(Path(path), reader="pyav", short_side=short_side, about=Decoding())
        return np.concatenate(list(blocks))
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    finally:
        decoder.close()
