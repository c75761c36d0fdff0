import io
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from slic.page.thumbnails import Scene, thumbnails
from slic.page.videos import Videos


class Pictures(NamedTuple):
    images: dict[str, bytes]
    stills: list[int]
    remarks: list[str]


def made(scenes, **options) -> Pictures:
    return Pictures(*thumbnails(scenes, **options))


def opened(image: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(image))
    assert picture.format == "WEBP"
    return np.asarray(picture.convert("RGB"), dtype=float)


def grey(levels, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames of one level each."""
    frames = np.zeros((len(levels), height, width, 3), np.uint8)
    frames += np.asarray(levels, np.uint8)[:, None, None, None]
    return frames


def all_of(store) -> list[Scene | None]:
    videos = Videos(store, store.entries(), split=1, clusters={})
    for video in store.ids:
        videos.row_of(video)
    return videos.scenes


def cell(sheet: np.ndarray, number: int) -> np.ndarray:
    row, column = divmod(number % 100, 10)
    return sheet[60 * row : 60 * row + 60, 80 * column : 80 * column + 80]


def test_stills_are_the_middle_frames(store):
    pictures = made(all_of(store), strips=[])
    assert pictures.stills == list(range(24))
    assert list(pictures.images) == ["s0"]
    assert pictures.remarks == []
    sheet = opened(pictures.images["s0"])
    assert sheet.shape == (600, 800, 3)
    for number, entry in enumerate(store.entries()):
        frame = Image.fromarray(store.read(entry.id, entry.frames // 2, 1)[0])
        wanted = np.asarray(frame.resize((80, 60), Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(cell(sheet, number) - wanted).mean() < 6
    assert cell(sheet, 24)[10:50, 10:70].max() < 12


def test_more_videos_take_more_sheets(store_of):
    store = store_of({f"{n:03}": grey([2 * n], 12, 16) for n in range(103)})
    pictures = made(all_of(store), strips=[102, 5])
    assert list(pictures.images) == ["s0", "s1", "m102", "m5"]
    assert pictures.stills == list(range(103))
    for number in (0, 57, 99, 100, 102):
        sheet = opened(pictures.images[f"s{number // 100}"])
        assert cell(sheet, number)[20:40, 20:60].mean() == pytest.approx(2 * number, abs=4)


@pytest.mark.parametrize(
    ("count", "fps", "span", "wanted"),
    [
        (1, 25.0, (None, None), [0] * 8),
        (3, 25.0, (None, None), [0, 0, 0, 1, 1, 1, 2, 2]),
        (8, 25.0, (None, None), [0, 1, 2, 3, 4, 5, 6, 7]),
        (17, None, (None, None), [1, 3, 5, 7, 9, 11, 13, 15]),
        # Four seconds, 40 frames, around the middle of 200: 80 to 119, every fifth.
        (200, 10.0, (None, None), [82, 87, 92, 97, 102, 107, 112, 117]),
        (200, 10.0, (20, 28), [20, 21, 22, 23, 24, 25, 26, 27]),
        (200, 10.0, (197, 400), [197, 197, 197, 198, 198, 198, 199, 199]),
    ],
)
def test_strips_are_frames_over_the_video(store_of, count, fps, span, wanted):
    store = store_of({"a": grey(range(20, 20 + count))}, fps=fps)
    videos = Videos(store, store.entries(), split=1, clusters={})
    videos.row_of("a", *span)
    strip = opened(made(videos.scenes, strips=[0]).images["m0"])
    assert strip.shape == (96, 1024, 3)
    means = strip.reshape(96, 8, 128, 3)[:, :, 20:108].mean(axis=(0, 2, 3))
    assert np.abs(means - 20 - wanted).max() < 2.5
    assert (np.diff(means) > -1.2).all()


@pytest.mark.parametrize(("height", "width"), [(40, 200), (200, 40), (1, 1), (1, 30), (30, 1)])
def test_frames_are_cropped_about_their_centre(store_of, height, width):
    frame = np.zeros((1, height, width, 3), np.uint8)
    # Red where a 4:3 crop of the centre lies, and nowhere else.
    tall, broad = max(1, min(height, width * 3 // 4)), max(1, min(width, height * 4 // 3))
    top, left = (height - tall) // 2, (width - broad) // 2
    frame[:, top : top + tall, left : left + broad, 0] = 200
    store = store_of({"a": frame})
    pictures = made(all_of(store), strips=[0])
    assert cell(opened(pictures.images["s0"]), 0)[4:56, 4:76, 0].min() > 150
    assert opened(pictures.images["m0"])[4:92, 4:124, 0].min() > 150


def test_what_cannot_be_read_has_no_picture(store_of):
    store = store_of({name: grey([90, 91, 92]) for name in "abc"})
    shard = store.path / "frames" / store.entry("b").key / "c.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:40])
    pictures = made([*all_of(store), None], strips=[0, 1, 2, 3])
    assert pictures.stills == [0, -1, 2, -1]
    assert list(pictures.images) == ["s0", "m0", "m2"]
    assert len(pictures.remarks) == 1
    assert pictures.remarks[0].startswith("1 video ")
    assert cell(opened(pictures.images["s0"]), 2)[20:40, 20:60].mean() == pytest.approx(91, abs=3)


def test_no_picture_at_all():
    assert made([], strips=[]).images == {}
    nothing = made([None] * 130, strips=[3])
    assert (nothing.images, nothing.stills, nothing.remarks) == ({}, [-1] * 130, [])


def size_of(images: dict[str, bytes], kind: str) -> int:
    return sum(len(image) for name, image in images.items() if name.startswith(kind))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_images_stay_within_their_bytes(store_of, share):
    noise = np.random.default_rng(0).integers(0, 256, (3, 130, 60, 80, 3)).astype(np.uint8)
    store = store_of({f"{n:03}": noise[:, n] for n in range(130)})
    scenes, rows = all_of(store), list(range(12))
    free = made(scenes, strips=rows).images
    stills, strips = int(share * size_of(free, "s")), int(share * size_of(free, "m"))
    pictures = made(scenes, strips=rows, stills_bytes=stills, strips_bytes=strips)
    assert size_of(pictures.images, "s") <= stills
    assert size_of(pictures.images, "m") <= strips
    # What is left out is what comes last, and is told.
    shown = [place >= 0 for place in pictures.stills]
    assert shown == sorted(shown, reverse=True)
    moving = [f"m{row}" in pictures.images for row in rows]
    assert moving == sorted(moving, reverse=True)
    left_out = (130 - sum(shown), 12 - sum(moving))
    assert len(pictures.remarks) == (1 if any(left_out) else 0)
    for number in filter(None, left_out):
        assert f"{number} video" in pictures.remarks[0]
    if share == 0.9:
        assert left_out == (0, 0)


def test_progress_comes_to_the_whole(store):
    told = []
    made([*all_of(store), None], strips=[1, 4], advance=lambda n, units: told.append((n, units)))
    assert sum(n for n, _ in told) == 25 + 2
    assert all(n == units for n, units in told)
