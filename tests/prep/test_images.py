"""`prep frames` on folders of images, against Pillow's reading of them."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from PIL import Image

from slic.cache import ClipStore, video_key
from slic.errors import InputError, StoreError
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames

pytestmark = pytest.mark.usefixtures("serial")


def write_images(
    folder: Path,
    *,
    frames: int = 5,
    size: tuple[int, int] = (48, 32),
    form: str = "image_{:05d}.png",
    first: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Smooth random images; what Pillow reads back, (T, H, W, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    read = []
    for number in range(first, first + frames):
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        path = folder / form.format(number)
        Image.fromarray(picture).save(path)
        read.append(np.asarray(Image.open(path).convert("RGB")))
    return np.stack(read)


@pytest.mark.parametrize(
    ("form", "first", "frames", "size"),
    [
        ("image_{:05d}.png", 1, 40, (33, 20)),
        ("frame{:06d}.jpg", 0, 5, (48, 32)),
        ("{}.jpeg", 1, 1, (17, 31)),
    ],
)
def test_every_image_in_order(
    tmp_path: Path, form: str, first: int, frames: int, size: tuple[int, int]
) -> None:
    expected = write_images(
        tmp_path / "set/run/a", frames=frames, size=size, form=form, first=first
    )
    path = tmp_path / "s.zarr"
    result = prep_frames(str(tmp_path / "set"), store=str(path), codec="zstd")
    assert (result.written, result.failed, result.frames) == (1, 0, frames)
    store = ClipStore(path)
    found = store.read("run/a", 0, frames)
    # Two JPEG decoders may differ by a rounding.
    assert np.abs(found.astype(int) - expected).max() <= (1 if "jp" in form else 0)
    entry = store.entry("run/a")
    assert (entry.label, entry.frames, entry.width, entry.height) == ("run", frames, *size)
    assert entry.fps is None
    assert zarr.open_group(path, mode="r")["frames"][video_key("run/a")].attrs["fps"] is None


def test_frame_rate_as_told(tmp_path: Path) -> None:
    write_images(tmp_path / "set/run/a")
    path, data = tmp_path / "s.zarr", str(tmp_path / "set")
    prep_frames(data, store=str(path), fps=12.5)
    assert ClipStore(path).entry("run/a").fps == 12.5
    assert prep_frames(data, store=str(path), fps=12.5).skipped == 1
    assert prep_flow(data, store=str(path), engine="cpu", workers=1).written == 1
    with pytest.raises(StoreError, match=r"fps 12\.5 -> None"):
        prep_frames(data, store=str(path))


def test_frame_rate_of_video_files_is_theirs(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="omit --fps"):
        prep_frames(str(drawn), store=str(tmp_path / "s.zarr"), fps=25)
    assert not (tmp_path / "s.zarr").exists()


# --- videos that fail ------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_one_reason_for_each_bad_video_and_the_others_go_on(tmp_path: Path) -> None:
    root = tmp_path / "set" / "run"
    for name in ("gap", "mixed", "cut", "cut_jpg", "empty", "text", "good"):
        form = "img_{:05d}.jpg" if name == "cut_jpg" else "img_{:05d}.png"
        write_images(root / name, form=form)
    (root / "gap" / "img_00003.png").unlink()
    Image.new("RGB", (20, 10)).save(root / "mixed" / "img_00004.png")
    cut(root / "cut" / "img_00002.png")
    cut(root / "cut_jpg" / "img_00005.jpg")
    (root / "empty" / "img_00001.png").write_bytes(b"")
    (root / "text" / "img_00003.png").write_text("no image")
    path = tmp_path / "s.zarr"
    result = prep_frames(str(tmp_path / "set"), store=str(path))
    assert (result.written, result.failed) == (1, 6)
    assert ClipStore(path).ids == ["run/good"]
    reasons = {video.removeprefix("run/"): reason for video, reason in result.failures}
    expected = {
        "gap": "image number 3 is missing: the next is img_00004.png",
        "mixed": "img_00004.png is 20x10, but the images before it 48x32",
        "cut": "img_00002.png does not decode as an image",
        "cut_jpg": "img_00005.jpg does not decode: ",
        "empty": "img_00001.png does not decode as an image",
        "text": "img_00003.png does not decode as an image",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name]
        assert reasons[name].splitlines() == [reasons[name]]
    again = prep_frames(str(tmp_path / "set"), store=str(path))
    assert (again.written, again.failed, again.new_failures) == (0, 6, 0)


# --- sources that change ---------------------------------------------------------------------


def test_changed_images_are_read_again_and_touched_ones_not(tmp_path: Path) -> None:
    folder, path = tmp_path / "set/run/a", tmp_path / "s.zarr"
    write_images(folder)
    data = str(tmp_path / "set")
    assert prep_frames(data, store=str(path)).written == 1
    assert prep_frames(data, store=str(path)).skipped == 1
    for image in folder.iterdir():
        os.utime(image, (1, 1))
    os.utime(folder, (1, 1))
    assert prep_frames(data, store=str(path)).skipped == 1
    Image.new("L", (48, 32)).save(folder / "flow_x_00001.png")  # flow is no frame
    assert prep_frames(data, store=str(path)).skipped == 1
    Image.new("RGB", (48, 32), (9, 9, 9)).save(folder / "image_00002.png")
    assert prep_frames(data, store=str(path)).written == 1
    write_images(folder, frames=6)
    assert prep_frames(data, store=str(path)).written == 1
    assert ClipStore(path).entry("run/a").frames == 6
