"""Folders of numbered images: which are one video, in which order."""

import random
from pathlib import Path

import pytest

from slic.datasets.images import image_files, image_prefix, image_sequence, view_of_prefix
from slic.errors import DecodeError
from tests.datasets.trees import make


@pytest.mark.parametrize(
    "form",
    [
        "image_{:05d}.jpg",
        "img_{:05d}.png",
        "frame{:06d}.jpg",
        "{:03d}.JPEG",
        "{}.jpg",
        "v_A_g01_c02_{:04d}.jpg",
        "a.b-{:02d}.PNG",
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_numbering(tmp_path: Path, form: str, first: int) -> None:
    names = [form.format(number) for number in range(first, first + 120)]
    make(tmp_path, random.Random(2).sample(names, len(names)))
    assert [path.name for path in image_sequence(tmp_path)] == names
    assert [path.name for path in image_files(tmp_path, view="frames")] == names


def test_views_beside_each_other(tmp_path: Path) -> None:
    make(tmp_path, (f"img_{n:05d}.jpg" for n in range(1, 4)))
    make(tmp_path, (f"{side}_{n:05d}.jpg" for n in range(2) for side in ("flow_x", "flow_y")))
    make(tmp_path, ("img_00009.txt", "thumb.jpg", ".img_00005.jpg"))
    (tmp_path / "img_00004.jpg").mkdir()
    assert [p.name for p in image_sequence(tmp_path, view="frames")] == [
        "img_00001.jpg",
        "img_00002.jpg",
        "img_00003.jpg",
    ]
    assert [p.name for p in image_sequence(tmp_path, view="v")] == [
        "flow_y_00000.jpg",
        "flow_y_00001.jpg",
    ]


@pytest.mark.parametrize(
    ("prefix", "view"),
    [
        ("flow_x_", "u"),
        ("x_", "u"),
        ("FLOW_Y", "v"),
        ("y", "v"),
        ("", "frames"),
        ("box_", "frames"),
        ("v_x_", "frames"),
        ("image_", "frames"),
    ],
)
def test_views_by_name(prefix: str, view: str) -> None:
    assert view_of_prefix(prefix) == view
    assert image_prefix(f"{prefix}00012.jpg") == prefix


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "no numbered image"),
        (("a.jpg", "1.txt"), "no numbered image"),
        (("2.jpg", "3.jpg"), "the first image is 2.jpg: numbers must begin with 0 or 1"),
        (("1.jpg", "2.jpg", "4.jpg"), "image number 3 is missing: the next is 4.jpg"),
        (("0.jpg", "2.jpg"), "image number 1 is missing: the next is 2.jpg"),
        (("1.jpg", "01.jpg", "2.jpg"), "two images of number 1, such as 1.jpg"),
        (("a1.jpg", "a2.jpg", "a2.png"), "two images of number 2"),
        (("a1.jpg", "b1.jpg"), r"images with 2 prefixes, such as a\* and b\*"),
    ],
)
def test_no_sequence(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        image_sequence(make(tmp_path, names))


def test_a_missing_view_is_named(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no numbered image of u"):
        image_sequence(make(tmp_path, ("1.jpg",)), view="u")
