"""Video files as frames, read by PyAV in the child process of `slic.decode.child`.

Only plain files of known containers are opened: a playlist or session description would make
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

MOST_PIXELS: Final = 1 << 26  # of a frame: twice 8K
LONGEST_SIDE: Final = 1 << 15
HIGHEST_RATE: Final = 1e5

_FORMATS: Final = "avi mov matroska asf flv gif h264 hevc m4v mpeg mpegts mpegvideo ogg"
_OPTIONS: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(_FORMATS.split()),
    "max_pixels": str(MOST_PIXELS),
}
_DURATION_TOLD: Final = {"mov", "matroska", "asf", "flv"}  # by the header


def read_video(path: str, about: dict[str, Any]) -> Iterator[Picture]:
    """The frames of a video's best stream, as long as they decode.

    Args:
        path: The file.
        about: Gets `fps` and `promised`, the header's frames, 0 if unknown; and in the end
            `remark`: why they may not be all, or None.

    Yields:
        uint8 `(H, W, 3)` RGB, turned and mirrored as the first frame's display matrix says.

    Raises:
        DecodeError, av.error.FFmpegError: Not one frame decodes.
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
        # What decodes is kept: a header's frame count is no truth.
        if not count:
            raise
        about["remark"] = f"decoding stopped after {counted(count, 'frame')}: {said(error)}"


def said(error: BaseException) -> str:
    """An exception's name and first line, without the file that FFmpeg adds."""
    if isinstance(error, DecodeError):
        return str(error)[:200]
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__} {lines[0] if lines else ''}".strip()[:200]


def check_size(width: int, height: int, *, what: str = "a frame") -> None:
    """Refuse pictures that would take gigabytes.

    Raises:
        DecodeError: More than 67 million pixels, or a side over 32,768.
    """
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise DecodeError(f"{what} of {width}x{height}: refused, as too large")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container, and the video stream that FFmpeg holds for the best."""
    import av

    try:
        check_regular(path)
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror}") from None
    try:
        container = av.open(path, options=_OPTIONS, metadata_errors="ignore")
    except av.error.ArgumentError:
        raise DecodeError("the content is of no known video container") from None
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise DecodeError("no video stream")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
        yield container, stream


def _pictures(container: Any, stream: Any, tally: "_Tally") -> Iterator[Picture]:
    from av.video.reformatter import VideoReformatter

    convert = VideoReformatter().reformat  # a frame's own would start threads for each frame
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
                # Frames asked for side data stay in memory until Python's cycle collector runs.
                matrix, first = frame.side_data.get("DISPLAYMATRIX"), False
                matrix = None if matrix is None else bytes(matrix)
            picture = convert(frame, format="rgb24", threads=1).to_ndarray()
            yield upright(np.asarray(picture, np.uint8), matrix)


def _decoded(packet: Any) -> list[Any]:
    """The frames that a packet completes."""
    import av

    try:
        return packet.decode()
    except av.error.ArgumentError:  # what FFmpeg says of too many pixels, and of few other things
        raise DecodeError("frames too large, or of no possible form") from None


def _rate(stream: Any) -> float:
    """Frames a second; 0 where the file says none, or none that can be."""
    rate = float(stream.average_rate or 0)
    return rate if 0 < rate <= HIGHEST_RATE else 0.0


def _promised(container: Any, stream: Any) -> int:
    """Frames that the header speaks of; 0 where it does not."""
    if stream.frames > 0:
        return int(stream.frames)
    return max(0, round((container.duration or 0) / 1e6 * _rate(stream)))


def upright(picture: Picture, matrix: bytes | None) -> Picture:
    """A frame turned and mirrored by quarters as its display matrix says (ISO 14496-12).

    Args:
        picture: uint8 `(H, W, 3)`.
        matrix: Nine int32 of this machine's byte order, or None.
    """
    if matrix is None or len(matrix) < 36:
        return picture
    # A point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    if abs(a) >= abs(b):
        return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return picture.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


@dataclass
class _Tally:
    """What the packets of a container tell, beside what its header promises.

    Attributes:
        container, stream: As PyAV opened them.
        packets: Those of the video stream that are neither empty nor cut off by an edit list.
        reached: Time at which the last packet of any stream is over, seconds.
    """

    container: Any
    stream: Any
    packets: int = 0
    reached: float = field(default=-math.inf)

    def add(self, packet: Any) -> None:
        """Take one packet of any stream into account."""
        ours = packet.stream is self.stream
        self.packets += ours and packet.size > 0 and not packet.is_discard
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base is not None:
            end = float((time + (packet.duration or 0)) * packet.time_base)
            self.reached = max(self.reached, end)

    def remark(self, frames: int) -> str | None:
        """What to say where clearly fewer frames decode than were promised, or are there."""
        # A duration counts from 0 in some containers, from the first packet in others.
        found = max(0.0, self.reached, self.reached - (self.container.start_time or 0) / 1e6)
        promised, rate = self._promised_s(), _rate(self.stream)
        if promised - found > max(0.05 * promised, 3 / rate if rate else 0.1):
            return f"the file ends after {found:.3g} s of the {promised:.3g} s that it promises"
        # Some packets give no frame by right: fields, hidden frames of VP8.
        if frames < 0.75 * self.packets - 1:
            return f"{frames} of {self.packets} frames decode"
        return None

    def _promised_s(self) -> float:
        """Seconds that the header speaks of; 0 where FFmpeg only guesses."""
        kind = self.container.format.name.split(",")[0]
        if kind == "avi":  # whose duration FFmpeg guesses, where the file is short
            return float(self.stream.frames * self.stream.time_base)
        return (self.container.duration or 0) / 1e6 if kind in _DURATION_TOLD else 0.0
