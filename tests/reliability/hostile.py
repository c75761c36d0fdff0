"""Makes small videos of many containers and codecs, damages them, and says how they decode."""

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from slic.decode.guarded import Decoding, GuardedDecoder
from slic.errors import DecodeError

# File name, codec, colours. The last two have no header that tells how long they are.
KINDS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "mpeg4.mp4": ("mpeg4", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "mjpeg.mov": ("mjpeg", "yuvj420p"),
    "flv1.flv": ("flv", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "gif.gif": ("gif", "rgb8"),
}
UNTOLD = ("h264.ts", "gif.gif")


def pictures(count: int, size: tuple[int, int], *, seed: int = 0) -> list[np.ndarray]:
    """A pattern that moves to the right, `size` (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return [np.roll(picture, 3 * number, axis=1) for number in range(count)]


def write(
    path: Path,
    count: int = 30,
    *,
    size: tuple[int, int] = (64, 48),
    seed: int = 0,
    times: Sequence[int] | None = None,
    streams: Sequence[tuple[int, int]] = (),
    **more: Any,
) -> Path:
    """A video at 25 frames a second, coded as its name's kind.

    Args:
        path: its name is one of `KINDS`, or ends like one.
        count: frames.
        size: width, height.
        seed: of the picture.
        times: of the frames, 1/25 s.
        streams: sizes of further video streams.
        more: `container`, options of the container; `codec`, of the codec.
    """
    kind = next(kind for kind in KINDS if path.name.endswith(kind))
    name, colours = KINDS[kind]
    with av.open(str(path), "w", options=more.get("container", {})) as container:
        for each in (size, *streams):
            stream: Any = container.add_stream(name, rate=25, options=more.get("codec", {}))
            stream.width, stream.height, stream.pix_fmt = *each, colours
        for number in range(count):
            for stream in container.streams.video:
                picture = pictures(count, (stream.width, stream.height), seed=seed)[number]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[number], Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in container.streams.video:
            container.mux(stream.encode())
    return path


def patch(path: Path, mark: bytes, offset: int, form: str, *values: int) -> Path:
    """Overwrite numbers at so many bytes behind each `mark`."""
    data, place = bytearray(path.read_bytes()), -1
    while (place := data.find(mark, place + 1)) >= 0:
        struct.pack_into(form, data, place + len(mark) + offset, *values)
    path.write_bytes(data)
    return path


def png_bomb(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel: a few kB that become gigabytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes((1 + (width + 7) // 8) * height))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", lines), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- damage ----------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MARKS = (
    *(b"tkhd", b"mvhd", b"mdhd", b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"elst", b"stsd"),
    *(b"avc1", b"mp4v", b"avih", b"strh", b"strf", b"idx1", b"00dc", b"\xff\xc0", b"GIF89a"),
    *(b"\x2a\xd7\xb1", b"\x44\x89", b"\xb0\x82", b"onMetaData"),
)


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One or more random damages: cut, flipped, zeroed, spliced, repeated, lies in headers."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(found) < 2:
            break
        place = rng.randrange(len(found))
        length = min(rng.choice((1, 4, 64, 1024)), len(found) - place)
        kind = rng.choice(("cut", "flip", "zero", "splice", "repeat", "lie", "lie"))
        if kind == "cut":
            del found[place:]
        elif kind == "flip":
            for _ in range(rng.choice((1, 8, 100))):
                found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        elif kind == "zero":
            found[place : place + length] = bytes(length)
        elif kind == "splice":
            found[place:] = other[rng.randrange(len(other)) :]
        elif kind == "repeat":
            found[place:place] = found[place : place + length] * rng.choice((1, 2, 50))
        else:
            _lie(found, rng)
    return bytes(found)


def _lie(data: bytearray, rng: random.Random) -> None:
    """Put an extreme number somewhere behind a mark of a header."""
    places = [data.find(mark) for mark in MARKS]
    places = [place for place in places if place >= 0] or [0]
    place = rng.choice(places) + rng.randrange(4, 80)
    form = rng.choice((">I", "<I", ">H", "<H"))
    if place + 4 <= len(data):
        struct.pack_into(
            form, data, place, rng.choice(NUMBERS) & (0xFFFF if form[1] == "H" else ~0)
        )


# --- decoding --------------------------------------------------------------------------------


@dataclass
class Outcome:
    """Frames `(T, H, W, 3)`, or the reason why there are none."""

    frames: np.ndarray | None
    reason: str
    about: Decoding


def outcome(decoder: GuardedDecoder, path: Path, *, short_side: int = 128) -> Outcome:
    """Decode as `prep` does; only a DecodeError of one line may come out."""
    about, reason = Decoding(), ""
    try:
        blocks = decoder.blocks(path, reader="pyav", short_side=short_side, about=about)
        return Outcome(np.concatenate(list(blocks)), "", about)
    except DecodeError as error:
        reason = str(error)
    assert reason.isprintable(), reason
    return Outcome(None, reason, about)


def stored(decoder: GuardedDecoder, path: Path, *, short_side: int = 128) -> np.ndarray:
    """The frames of a video that decodes."""
    found = outcome(decoder, path, short_side=short_side)
    assert found.frames is not None, found.reason
    return found.frames


def by_opencv(path: Path) -> np.ndarray:
    """What OpenCV's own FFmpeg decodes, RGB."""
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    return np.stack(frames)


def peak_mb(decoder: GuardedDecoder) -> float:
    """The most memory that the decoder's child has held so far."""
    child = decoder._child
    assert child is not None
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
