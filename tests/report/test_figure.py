import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slic.errors import InputError
from slic.page.videos import Videos
from slic.report.figure import write_figure

GREEN, RED = (26, 127, 56), (196, 38, 29)


def shown(store, rows: list[tuple], *, labels: dict[str, str] | None = None):
    """A report of rows (query, [(neighbour, right), ...]) by ids, and its scenes."""
    videos = Videos(store, store.entries(), split=1, clusters={})
    listed = [
        {
            "query": videos.row_of(query),
            "neighbours": [
                {"video": videos.row_of(video), "similarity": 0.5, "right": right}
                for video, right in near
            ],
        }
        for query, near in rows
    ]
    table = videos.table()
    table["label"] = [(labels or {}).get(video) for video in table["id"]]
    group = {"title": None, "note": None, "rows": listed}
    view = {"key": "random", "title": "", "note": "", "groups": [group]}
    return {"gallery": {"views": [view]}, "videos": table}, videos.scenes


@pytest.fixture
def levels(store_of):
    """Videos `l0` ... `l9`, each of one level of blue."""
    return store_of(
        {f"l{n}": np.full((3, 24, 32, 3), (0, 0, 20 * n + 40), np.uint8) for n in range(10)}
    )


def opened(path: Path, mode: str = "RGB") -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode))


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(pixels.astype(int) - colour) < 12).all(axis=-1)


def test_queries_and_neighbours_stand_in_rows(levels, tmp_path):
    rows = [
        ("l0", [("l1", True), ("l2", False), ("l3", True), ("l4", None), ("l5", False)]),
        ("l6", [("l7", False)]),
    ]
    path = tmp_path / "figure.png"
    write_figure(path, *shown(levels, rows))
    pixels = opened(path)
    height, width = pixels.shape[:2]
    assert (width / 300, height / 300) == pytest.approx((6.875, 2.2), abs=0.3)
    # Where the pictures of each level of blue are: from left to right, the rows below each other.
    places = {}
    for n in range(8):
        y, x = np.nonzero(near(pixels, (0, 0, 20 * n + 40)))
        assert len(y) > 5000
        places[n] = (np.median(y), np.median(x))
    assert [places[n][1] for n in range(6)] == sorted(places[n][1] for n in range(6))
    assert np.ptp([places[n][0] for n in range(6)]) < 5
    assert places[6][0] - places[0][0] == pytest.approx(height / 2, abs=height / 6)
    assert (places[6][1], places[7][1]) == pytest.approx((places[0][1], places[1][1]), abs=5)
    assert near(pixels, (0, 0, 240)).sum() == 0
    # Frames: green about 1 and 3, red about 2, 5 and 7, neither elsewhere.
    for n, (y, x) in places.items():
        half = (int(height / 6), int(width / 13))
        part = pixels[max(0, int(y) - half[0]) : int(y) + half[0], max(0, int(x) - half[1]) :]
        part = part[:, : 2 * half[1]]
        assert (near(part, GREEN).sum() > 500) == (n in (1, 3))
        assert (near(part, RED).sum() > 500) == (n in (2, 5, 7))


NAMES = {
    "l0": "$x_1$ $\\frac",
    "l1": "<script>alert(1)</script>",
    "l2": "日本語のラベルがここにとても長く続く",
    "l3": "🎬 emoji",
    "l4": "line\nbreak\x1b[31m",
    "l5": "a label much longer than a picture is wide " * 9,
    "l6": "& \"quotes\" 'too'",
}


def test_any_label_is_drawn_and_stays_text(levels, tmp_path):
    path, pdf = tmp_path / "figure.SVG", tmp_path / "figure.pdf"
    rows = [("l0", [(f"l{n}", None) for n in range(1, 6)]), ("l6", [])]
    for file in (path, pdf):
        write_figure(file, *shown(levels, rows, labels=NAMES))
        first = file.read_bytes()
        write_figure(file, *shown(levels, rows, labels=NAMES))
        assert file.read_bytes() == first
        assert not re.search(rb"20\d\d-\d\d-\d\dT|D:20\d\d", first)
    texts = [e.text for e in ElementTree.parse(path).iter() if e.tag.endswith("}text")]
    for name in ("l0", "l6", "l3"):
        assert NAMES[name] in texts
    assert "line\\nbreak\\x1b[31m" in texts
    long = next(text for text in texts if text.startswith("a label"))
    assert long.endswith("…")
    assert len(long) < 30
    assert NAMES["l2"] not in texts
    assert b"/Type3" not in first
    assert b"/FontFile2" in first


def test_a_video_without_a_picture(levels, tmp_path):
    shard = levels.path / "frames" / levels.entry("l1").key / "c.0.0.0.0"
    shard.write_bytes(b"")
    report, scenes = shown(levels, [("l0", [("l1", True), ("gone", False)])])
    write_figure(tmp_path / "figure.svg", report, scenes)
    assert (tmp_path / "figure.svg").read_text().count("no picture") == 2


def test_at_most_eight_queries(levels, tmp_path):
    write_figure(tmp_path / "one.png", *shown(levels, [("l0", [])]))
    write_figure(tmp_path / "all.png", *shown(levels, [(f"l{n}", []) for n in range(10)]))
    one, most = (len(opened(tmp_path / name)) for name in ("one.png", "all.png"))
    assert most == pytest.approx(8 * one, rel=0.2)


@pytest.mark.parametrize("gallery", [None, {"views": []}])
def test_nothing_to_draw(tmp_path: Path, gallery):
    with pytest.raises(InputError, match="no gallery"):
        write_figure(tmp_path / "figure.png", {"gallery": gallery, "videos": {}}, [])
