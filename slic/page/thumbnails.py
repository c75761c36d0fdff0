"""Small pictures of videos: sheets of stills, and strips of frames that a page lets move."""

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
# What a report says of them.
STILLS = {"width": STILL_WIDTH, "height": STILL_HEIGHT, "columns": SHEET_SIDE, "rows": SHEET_SIDE}
STRIPS = {"width": STRIP_WIDTH, "height": STRIP_HEIGHT, "frames": STRIP_FRAMES}
STILLS_BYTES, STRIPS_BYTES = 7_000_000, 8_000_000
CELLS = SHEET_SIDE**2
STRIP_SECONDS = 4.0  # of a longer video, so that what moves is seen to
USUAL_FPS = 25.0
QUALITIES = (55, 40, 28, 18, 10)


@dataclass(frozen=True)
class Scene:
    """Frames `start` up to before `end` of a stored video, one or more, that pictures show."""

    store: ClipStore
    video: str
    start: int
    end: int
    fps: float | None

    def middle(self) -> Picture:
        """The middle frame, `(1, H, W, 3)` RGB.

        Raises:
            SlicError: as `ClipStore.read`.
        """
        return self.store.read(self.video, (self.start + self.end) // 2, 1)

    def moving(self, count: int) -> Picture:
        """`count` frames evenly over the scene, or over seconds around its middle if it is long.

        Of fewer frames some are repeated.

        Returns:
            `(count, H, W, 3)` RGB.

        Raises:
            SlicError: as `ClipStore.read`.
        """
        length = self.end - self.start
        shown = min(length, max(count, round(STRIP_SECONDS * (self.fps or USUAL_FPS))))
        first = self.start + (length - shown) // 2
        if shown < count:
            return self.store.read(self.video, first, shown)[np.arange(count) * shown // count]
        stride = shown // count
        first += (shown - (count - 1) * stride - 1) // 2
        return self.store.read(self.video, first, count, stride=stride)


@dataclass(frozen=True)
class Pictures:
    """What `thumbnails` made.

    Attributes:
        images: `{"s0": WebP, ..., "m<row>": WebP}`.
        stills: of every row sheet * 100 + cell, or -1 (the column `still` of the table).
        remarks: sentences on what has no picture, for the report; may be empty.
    """

    images: dict[str, bytes]
    stills: list[int]
    remarks: list[str]


def thumbnails(
    scenes: Sequence[Scene | None],
    *,
    strips: Sequence[int],
    stills_bytes: int = STILLS_BYTES,
    strips_bytes: int = STRIPS_BYTES,
    advance: Advance = lambda videos, units: None,
) -> Pictures:
    """Stills of all rows, and strips of some; a damaged video has neither.

    The more there are, the lower is their quality; what goes beyond the bytes all the same, the
    last ones, is left out.

    Args:
        scenes: of every row (`Videos.scenes()`), in order of need; None gets no picture.
        strips: rows that get a strip (queries and neighbours of the gallery), in order of need.
        stills_bytes, strips_bytes: that the images take at most.
        advance: called as `advance(pictures, pictures)`; there are
            `len(scenes) + len(set(strips))` in all.
    """
    rows = list(dict.fromkeys(strips))
    sheets, stills, unread = _sheets(scenes, _Budget(stills_bytes), advance)
    moving, unmoved = _strips(scenes, rows, _Budget(strips_bytes), advance)
    damaged = unread | unmoved
    known = {row for row, scene in enumerate(scenes) if scene is not None} - damaged
    still_less = sum(stills[row] < 0 for row in known)
    strip_less = sum(row in known and f"m{row}" not in moving for row in rows)
    remarks = _remarks(len(damaged), still_less, strip_less)
    return Pictures(sheets | moving, stills, remarks)


def _sheets(
    scenes: Sequence[Scene | None], budget: "_Budget", advance: Advance
) -> tuple[dict[str, bytes], list[int], set[int]]:
    """Sheets by name, the place of every row, and the rows that are damaged."""
    images: dict[str, bytes] = {}
    places = [-1] * len(scenes)
    damaged: set[int] = set()
    for first in range(0, len(scenes), CELLS):
        part = scenes[first : first + CELLS]
        sheet = np.zeros((SHEET_SIDE, SHEET_SIDE, STILL_HEIGHT, STILL_WIDTH, 3), np.uint8)
        drawn = []
        for cell, scene in enumerate(part):
            if scene is not None and budget.left:
                if _draw(sheet[divmod(cell, SHEET_SIDE)][None], scene.middle):
                    drawn.append(first + cell)
                else:
                    damaged.add(first + cell)
        image = budget.webp(sheet, share=len(part) / (len(scenes) - first)) if drawn else None
        if image is not None:
            images[f"s{first // CELLS}"] = image
            for row in drawn:
                places[row] = row
        advance(len(part), len(part))
    return images, places, damaged


def _strips(
    scenes: Sequence[Scene | None], rows: Sequence[int], budget: "_Budget", advance: Advance
) -> tuple[dict[str, bytes], set[int]]:
    """Strips by name, and the rows that are damaged."""
    images: dict[str, bytes] = {}
    damaged: set[int] = set()
    for number, row in enumerate(rows):
        scene = scenes[row]
        if scene is not None and budget.left:
            strip = np.zeros((1, STRIP_FRAMES, STRIP_HEIGHT, STRIP_WIDTH, 3), np.uint8)
            if not _draw(strip[0], partial(scene.moving, STRIP_FRAMES)):
                damaged.add(row)
            elif (image := budget.webp(strip, share=1 / (len(rows) - number))) is not None:
                images[f"m{row}"] = image
        advance(1, 1)
    return images, damaged


def _draw(room: Picture, read: Callable[[], Picture]) -> bool:
    """Fill room `(F, h, w, 3)` with the frames read; whether they could be."""
    import cv2

    height, width = room.shape[1:3]
    try:
        for frame, target in zip(read(), room, strict=True):
            target[...] = fitted(frame, width, height)
    except (SlicError, cv2.error):  # OpenCV's of frames without a pixel
        return False
    return True


def fitted(frame: Picture, width: int, height: int) -> Picture:
    """A frame `(H, W, 3)` cropped about its centre to the shape wanted, and resized to it."""
    import cv2

    high, wide = frame.shape[:2]
    tall = min(high, max(1, round(wide * height / width)))
    broad = min(wide, max(1, round(high * width / height)))
    top, left = (high - tall) // 2, (wide - broad) // 2
    part = np.ascontiguousarray(frame[top : top + tall, left : left + broad])
    how = cv2.INTER_AREA if broad > width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)


class _Budget:
    """Encodes images so that all of them stay within some bytes; `left` is 0 once they do not."""

    def __init__(self, most: int) -> None:
        self.left = most
        self._level = 0

    def webp(self, cells: Picture, *, share: float) -> bytes | None:
        """Cells `(rows, columns, h, w, 3)` RGB as one WebP, as good as a share of the rest allows.

        None where even the lowest quality takes more than is left.
        """
        import cv2

        rows, columns, height, width, _ = cells.shape
        picture = cells.swapaxes(1, 2).reshape(rows * height, columns * width, 3)[..., ::-1]
        # From the quality of the one before, or one better, as the next is much like it.
        for level in range(max(0, self._level - 1), len(QUALITIES)):
            self._level = level
            how = [cv2.IMWRITE_WEBP_QUALITY, QUALITIES[level]]
            image = cv2.imencode(".webp", picture, how)[1].tobytes()
            if len(image) <= share * self.left:
                break
        if len(image) > self.left:
            self.left = 0
            return None
        self.left -= len(image)
        return image


def _remarks(damaged: int, stills: int, strips: int) -> list[str]:
    remarks = []
    if damaged:
        remarks.append(f"{counted(damaged, 'video')} cannot be read, and have no picture here.")
    beyond = [(stills, "no picture"), (strips, "no moving picture")]
    told = [f"{counted(number, 'video')} with {what}" for number, what in beyond if number]
    if told:
        remarks.append(f"To keep this file small, it shows {' and '.join(told)}.")
    return remarks
