"""Read the frames of video files with PyAV, in the child process of `slic.decode.child`.

Only regular files of known containers are opened: a playlist or session description would make
FFmpeg read other files, or the network.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slic.errors import DecodeError
from slic.runtime.regular_files import check_regular
from slic.runtime.text import counted

Picture = NDArray[np.uint8]

MOST_PIXELS: Final = 1 << 26  # of a frame: twice those of 8K
LONGEST_SIDE: Final = 1 << 15  # pixels
HIGHEST_RATE: Final = 1e5  # frames per second

_FORMATS: Final = "avi mov matroska asf flv gif h264 hevc m4v mpeg mpegts mpegvideo ogg"
_OPTIONS: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(_FORMATS.split()),
    "max_pixels": str(MOST_PIXELS),
}
_WITH_DURATION: Final = {"mov", "matroska", "asf", "flv"}  # their headers record it


def read_video(path: str, about: dict[str, Any]) -> Iterator[Picture]:
    """Yield the frames of a video's best stream, as long as they decode.

    Args:
        path: the file.
        about: receives `fps` and `promised`, the number of frames in the header, 0 if unknown; at
            the end `remark`: why frames may be missing, or None.

    Yields:
        Frames, uint8 `(H, W, 3)` RGB, rotated and mirrored by the first frame's display matrix.

    Raises:
        DecodeError, av.error.FFmpegError: no frame decodes.
    """
    import av

    count = 0
    try:
        with _opened(path) as (container, stream):
            about["fps"] = _rate(stream)
            about["promised"] = _promised(container, stream)
            tally = _Tally(container, stream)
            for picture in _pictures(container, stream, tally):
                yield picture
                count += 1
            about["remark"] = tally.remark(count)
    except (av.error.FFmpegError, ValueError, DecodeError) as error:
        # Decoded frames are used: the header's number of frames may be wrong.
        if not count:
            raise
        about["remark"] = f"decoding stopped after {counted(count, 'frame')}: {error_line(error)}"


def error_line(error: BaseException) -> str:
    """Return an exception's class and first line, without the file name that FFmpeg adds."""
    if isinstance(error, DecodeError):
        return str(error)[:200]
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__} {lines[0] if lines else ''}".strip()[:200]


def check_size(width: int, height: int, *, what: str = "a frame") -> None:
    """Raise a DecodeError for more than 67 million pixels, or a side above 32,768."""
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise DecodeError(f"{what} of {width}x{height} is too large")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """Open the container, and choose the video stream that FFmpeg considers best."""
    import av

    try:
        check_regular(path)
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror}") from None
    try:
        container = av.open(path, options=_OPTIONS, metadata_errors="ignore")
    except av.error.ArgumentError:
        raise DecodeError("the content is not a known video container") from None
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise DecodeError("no video stream")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
        yield container, stream


def _pictures(container: Any, stream: Any, tally: "_Tally") -> Iterator[Picture]:
    from av.video.reformatter import VideoReformatter

    convert = VideoReformatter().reformat  # frame.reformat would start threads for each frame
    matrix, first = None, True
    for packet in container.demux():
        tally.add(packet)
        if packet.stream is not stream:
            continue
        if packet.has_sidedata("encryption_info"):
            raise DecodeError("the video is encrypted")
        for frame in _decoded(packet):
            check_size(frame.width, frame.height)
            if first:
                # Only of the first: a frame whose side data was read stays in memory until gc.
                matrix, first = frame.side_data.get("DISPLAYMATRIX"), False
                matrix = None if matrix is None else bytes(matrix)
            picture = convert(frame, format="rgb24", threads=1).to_ndarray()
            yield upright(np.asarray(picture, np.uint8), matrix)


def _decoded(packet: Any) -> list[Any]:
    """Return the frames that a packet completes."""
    import av

    try:
        return packet.decode()
    except av.error.ArgumentError:  # for too many pixels, and for little else
        raise DecodeError("frames are too large, or of an impossible format") from None


def _rate(stream: Any) -> float:
    """Return frames per second; 0 if the file records none, or an impossible value."""
    rate = float(stream.average_rate or 0)
    return rate if 0 < rate <= HIGHEST_RATE else 0.0


def _promised(container: Any, stream: Any) -> int:
    """Return the number of frames according to the header; 0 if unknown."""
    if stream.frames > 0:
        return int(stream.frames)
    return max(0, round((container.duration or 0) / 1e6 * _rate(stream)))


def upright(picture: Picture, matrix: bytes | None) -> Picture:
    """Rotate a frame by quarter turns and mirror it by its display matrix (ISO 14496-12).

    Args:
        picture: uint8 `(H, W, 3)`.
        matrix: nine int32 in native byte order, or None.
    """
    if matrix is None or len(matrix) < 36:
        return picture
    # A point (x, y) is displayed at (a x + c y, b x + d y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(a) >= abs(b):
        return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return picture.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


@dataclass
class _Tally:
    """Contents of a container's packets, to compare with its header.

    Attributes:
        container, stream: opened by PyAV.
        packets: number of the video stream's packets, without empty and discarded ones.
        reached: time at which the last packet of any stream ends, in seconds.
    """

    container: Any
    stream: Any
    packets: int = 0
    reached: float = field(default=-math.inf)

    def add(self, packet: Any) -> None:
        """Count a packet of any stream."""
        ours = packet.stream is self.stream
        self.packets += ours and packet.size > 0 and not packet.is_discard
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base is not None:
            end = float((time + (packet.duration or 0)) * packet.time_base)
            self.reached = max(self.reached, end)

    def remark(self, frames: int) -> str | None:
        """Return a remark if clearly fewer frames decode than the header or the packets promise."""
        # A duration counts from 0 in some containers, from the first packet in others.
        found = max(0.0, self.reached, self.reached - (self.container.start_time or 0) / 1e6)
        promised, rate = self._promised_s(), _rate(self.stream)
        if promised - found > max(0.05 * promised, 3 / rate if rate else 0.1):
            return f"the file ends after {found:.3g} s, but its header says {promised:.3g} s"
        # Some packets rightly yield no frame: fields, hidden frames of VP8.
        if frames < 0.75 * self.packets - 1:
            return f"{frames} of {self.packets} frames decode"
        return None

    def _promised_s(self) -> float:
        """Return the duration according to the header, in seconds; 0 if FFmpeg only guesses it."""
        kind = self.container.format.name.split(",")[0]
        if kind == "avi":  # FFmpeg guesses its duration if the file is truncated
            return float(self.stream.frames * self.stream.time_base)
        return (self.container.duration or 0) / 1e6 if kind in _WITH_DURATION else 0.0
