"""Video file, or folder of images -> frames, in a child process that can be killed.

What decodes video can hang, crash or ask for all memory on a broken file; so it runs in a child
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
    """What is known of a video: `remark` with its last block, the others with the first.

    Attributes:
        fps: frames a second, as the file says; 0 where it does not.
        promised: frames that the header speaks of; 0 where it does not.
        remark: why decoding stopped early, or None.
    """

    fps: float = 0.0
    promised: int = 0
    remark: str | None = None


class GuardedDecoder:
    """Decodes videos in one child process, started when needed and replaced when it fails.

    Args:
        stall_limit_s: seconds without a block after which the child is killed.
        time_limit_s: seconds of waiting for the blocks of one video after which it is.
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
        """Blocks of consecutive frames, `(n, H, W, 3)` uint8 RGB, n up to 16.

        Frames are resized so that the short side is at most `short_side` pixels, rotated as
        the file's metadata say.

        Args:
            path: the video file, or the folder of images.
            reader: `pyav` of video, `images` of images.
            short_side: pixels.
            about: filled in, `remark` after the last block.
            files: for `images`, the one image of each frame; or the two of u and v, for blocks
                of grey levels `(n, H, W, 2)`.
            most: frames to read; all if None.

        Raises:
            DecodeError: the reader fails, crashes, or stalls; blocks read so far are void.
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
                raise DecodeError(f"{reader}: no end in {self.time_limit_s:g} s") from None
            raise DecodeError(f"{reader}: no frame in {self.stall_limit_s:g} s") from None
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
        except ValueError:  # from a child whose memory is spoilt
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
        """Kill the child, if one runs; so does the end of this object, or of its thread."""
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
    """All frames of one video, decoded in a guarded child.

    Args:
        path: a video file.
        short_side: longest allowed short side, pixels.

    Returns:
        `(T, H, W, 3)` uint8 RGB.

    Raises:
        DecodeError: it does not decode; the message names the file.
    """
    decoder = GuardedDecoder()
    try:
        blocks = decoder.blocks(Path(path), reader="pyav", short_side=short_side, about=Decoding())
        return np.concatenate(list(blocks))
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    finally:
        decoder.close()
