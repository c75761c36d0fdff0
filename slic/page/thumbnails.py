"""Small pictures of videos: sheets of still frames, and strips of frames that a page animates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore
from slic.errors import SlicError
from slic.runtime.text import counted

Picture = NDArray[np.uint8]
Advance = Callable[[int, float], None]

STILL_WIDTH, STILL_HEIGHT, SHEET_SIDE = 80, 60, 10  # pixels, pixels, cells
STRIP_WIDTH, STRIP_HEIGHT, STRIP_FRAMES = 128, 96, 8
# The layout, as a report states it.
STILLS = {"width": STILL_WIDTH, "height": STILL_HEIGHT, "columns": SHEET_SIDE, "rows": SHEET_SIDE}
STRIPS = {"width": STRIP_WIDTH, "height": STRIP_HEIGHT, "frames": STRIP_FRAMES}
STILLS_BYTES, STRIPS_BYTES = 7_000_000, 8_000_000
CELLS = SHEET_SIDE**2
STRIP_SECONDS = 4.0  # of a longer video: frames further apart would not show the motion
USUAL_FPS = 25.0
QUALITIES = (55, 40, 28, 18, 10)


@dataclass(frozen=True)
class Scene:
    """Frames of a stored video to make pictures of: `start` up to but excluding `end`."""

    store: ClipStore
    video: str
    start: int
    end: int
    fps: float | None

    def middle(self) -> Picture:
        """Read the middle frame, `(1, H, W, 3)` RGB.

        Raises:
            SlicError: as `ClipStore.read`.
        """
        return self.store.read(self.video, (self.start + self.end) // 2, 1)

    def moving(self, count: int) -> Picture:
        """Read `count` frames spread evenly over the scene, or over four seconds in its middle.

        Returns:
            `(count, H, W, 3)` RGB; frames repeat if the scene has fewer.

        Raises:
            SlicError: as `ClipStore.read`.
        """
        length = self.end - self.start
        span = min(length, max(count, round(STRIP_SECONDS * (self.fps or USUAL_FPS))))
        first = self.start + (length - span) // 2
        if span < count:
            return self.store.read(self.video, first, span)[np.arange(count) * span // count]
        stride = span // count
        first += (span - (count - 1) * stride - 1) // 2
        return self.store.read(self.video, first, count, stride=stride)


def thumbnails(
    scenes: Sequence[Scene | None],
    *,
    strips: Sequence[int],
    stills_bytes: int = STILLS_BYTES,
    strips_bytes: int = STRIPS_BYTES,
    advance: Advance = lambda videos, units: None,
) -> tuple[dict[str, bytes], list[int], list[str]]:
    """Make stills of all rows, and strips of some; damaged videos have neither.

    The more there are, the lower their quality; the last ones are left out if even the lowest
    quality takes too many bytes.

    Args:
        scenes: scene of every row, the most important first; None gets no picture.
        strips: rows that get a strip, the most important first.
        stills_bytes: largest number of bytes of all sheets.
        strips_bytes: largest number of bytes of all strips.
        advance: called as `advance(pictures, pictures)`, with `len(scenes) + len(strips)`
            pictures in all.

    Returns:
        WebP images by name, sheets `s<number>` and strips `m<row>`; for every row sheet * 100 +
        cell, or -1 without a still; and remarks on videos without a picture.
    """
    damaged: set[int] = set()
    sheets, stills = _sheets(scenes, _Budget(stills_bytes), damaged, advance)
    moving = _strips(scenes, strips, _Budget(strips_bytes), damaged, advance)
    readable = {row for row, scene in enumerate(scenes) if scene is not None} - damaged
    remarks = []
    if damaged:
        remarks.append(f"{counted(len(damaged), 'video')} cannot be read and have no picture here.")
    beyond = {
        "no picture": sum(stills[row] < 0 for row in readable),
        "no moving picture": sum(row in readable and f"m{row}" not in moving for row in strips),
    }
    if any(beyond.values()):
        parts = [
            f"{counted(number, 'video')} with {what}" for what, number in beyond.items() if number
        ]
        remarks.append(f"To keep this file small, it shows {' and '.join(parts)}.")
    return sheets | moving, stills, remarks


def _sheets(
    scenes: Sequence[Scene | None], budget: "_Budget", damaged: set[int], advance: Advance
) -> tuple[dict[str, bytes], list[int]]:
    """Make the sheets, by name, and the place of every row; add rows to `damaged`."""
    images: dict[str, bytes] = {}
    places = [-1] * len(scenes)
    for first in range(0, len(scenes), CELLS):
        part = scenes[first : first + CELLS]
        sheet = np.zeros((SHEET_SIDE, SHEET_SIDE, STILL_HEIGHT, STILL_WIDTH, 3), np.uint8)
        drawn = [
            row
            for row, scene in enumerate(part, start=first)
            if scene is not None
            and budget.left
            and _fill(sheet[divmod(row - first, SHEET_SIDE)][None], scene.middle, row, damaged)
        ]
        image = budget.webp(sheet, share=len(part) / (len(scenes) - first)) if drawn else None
        if image is not None:
            images[f"s{first // CELLS}"] = image
            for row in drawn:
                places[row] = row
        advance(len(part), len(part))
    return images, places


def _strips(
    scenes: Sequence[Scene | None],
    rows: Sequence[int],
    budget: "_Budget",
    damaged: set[int],
    advance: Advance,
) -> dict[str, bytes]:
    """Make the strips, by name; add rows to `damaged`."""
    images: dict[str, bytes] = {}
    for number, row in enumerate(rows):
        scene = scenes[row]
        strip = np.zeros((1, STRIP_FRAMES, STRIP_HEIGHT, STRIP_WIDTH, 3), np.uint8)
        filled = (
            scene is not None
            and budget.left
            and _fill(strip[0], partial(scene.moving, STRIP_FRAMES), row, damaged)
        )
        image = budget.webp(strip, share=1 / (len(rows) - number)) if filled else None
        if image is not None:
            images[f"m{row}"] = image
        advance(1, 1)
    return images


def _fill(room: Picture, read: Callable[[], Picture], row: int, damaged: set[int]) -> bool:
    """Read frames into `(F, h, w, 3)` room; return whether they could be read."""
    height, width = room.shape[1:3]
    try:
        room[...] = [fitted(frame, width, height) for frame in read()]
    except SlicError:
        damaged.add(row)
        return False
    return True


def fitted(frame: Picture, width: int, height: int) -> Picture:
    """Crop a frame `(H, W, 3)` about its centre to the requested shape, and resize it."""
    import cv2

    high, wide = frame.shape[:2]
    tall = min(high, max(1, round(wide * height / width)))
    broad = min(wide, max(1, round(high * width / height)))
    top, left = (high - tall) // 2, (wide - broad) // 2
    part = np.ascontiguousarray(frame[top : top + tall, left : left + broad])
    how = cv2.INTER_AREA if broad > width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)


class _Budget:
    """Encodes images so that all of them together stay within some bytes.

    Attributes:
        left: bytes left; 0 once an image has not fitted.
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self._level = 0

    def webp(self, cells: Picture, *, share: float) -> bytes | None:
        """Encode cells `(rows, columns, h, w, 3)` RGB as one WebP.

        Args:
            cells: pictures.
            share: fraction of the bytes left that the image should stay below.

        Returns:
            None if even the lowest quality takes more bytes than are left.
        """
        import cv2

        rows, columns, height, width, _ = cells.shape
        picture = cells.swapaxes(1, 2).reshape(rows * height, columns * width, 3)[..., ::-1]
        # Start at one level better than the previous image's, as images are much alike.
        for level in range(max(0, self._level - 1), len(QUALITIES)):
            self._level = level
            how = [cv2.IMWRITE_WEBP_QUALITY, QUALITIES[level]]
            image = cv2.imencode(".webp", picture, how)[1].tobytes()
            if len(image) <= share * self.left:
                break
        fits = len(image) <= self.left
        self.left = self.left - len(image) if fits else 0
        return image if fits else None
