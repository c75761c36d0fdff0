"""The embedding cache: written whole, read by h5py alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import slic
from slic.cache import EmbeddingCache
from slic.cache.embeddings import WindowPositions, is_outdated, write_embeddings
from slic.errors import CacheError

IDS = ["Run/a.avi", "Run/ü b.avi", "Hop/c.avi"]
BACKBONE = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
PROJECTION = np.random.default_rng(1).normal(size=(3, 128)).astype(np.float32)


def write(path: Path, **changed: Any) -> Path:
    arguments: dict[str, Any] = {
        "backbone": BACKBONE,
        "projection": PROJECTION,
        "labels": ["Run", None, "Hop"],
        "splits": {1: ["train", "test", None], 2: ["unused"] * 3, 3: [None] * 3},
        "attributes": {"checkpoint": "e1-abc", "clips": 10, "rate": 0.5},
    }
    write_embeddings(path, IDS, **(arguments | changed))
    return path


def test_written_is_read(tmp_path: Path) -> None:
    cache = EmbeddingCache(write(tmp_path / "new" / "folder" / "x.h5"))
    assert cache.ids.tolist() == IDS
    np.testing.assert_array_equal(cache.backbone, BACKBONE)
    np.testing.assert_array_equal(cache.projection, PROJECTION)
    assert cache.backbone.dtype == cache.projection.dtype == np.float32
    assert cache.labels is not None
    assert cache.labels.tolist() == ["Run", "", "Hop"]
    assert {n: s.tolist() for n, s in cache.splits.items()} == {
        1: ["train", "test", "unused"],
        2: ["unused"] * 3,
    }
    assert cache.attributes == {
        "checkpoint": "e1-abc",
        "clips": 10,
        "rate": 0.5,
        "videos": 3,
        "format": 2,
        "slic": slic.__version__,
    }
    assert [f.name for f in (tmp_path / "new" / "folder").iterdir()] == ["x.h5"]


def test_h5py_alone_suffices(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "x.h5"), "r") as file:
        assert sorted(file) == ["backbone", "label", "projection", "split", "split2", "video"]
        assert [v.decode() for v in file["video"][:]] == IDS
        np.testing.assert_array_equal(file["backbone"][:], BACKBONE)
        np.testing.assert_array_equal(file["projection"][:], PROJECTION)
        assert file["label"].asstr()[0] == "Run"
        assert file["split"].asstr()[:].tolist() == ["train", "test", "unused"]
        assert file.attrs["checkpoint"].decode() == "e1-abc"
        assert file.attrs["format"] == 2


def test_no_labels_and_no_splits(tmp_path: Path) -> None:
    cache = EmbeddingCache(write(tmp_path / "x.h5", labels=[None] * 3, splits={1: [None] * 3}))
    assert cache.labels is None
    assert cache.splits == {}


PLACES = {"of": ["a", "a", "b"], "start": [0, 1.5, 0], "end": [2, 3.5, 0.04]}


def places(**changed: list) -> WindowPositions:
    columns = PLACES | changed
    of, start, end = (np.array(columns[name]) for name in ("of", "start", "end"))
    return WindowPositions(of, start.astype(np.float64), end.astype(np.float64))


def test_windows_are_read_as_written(tmp_path: Path) -> None:
    cache = EmbeddingCache(write(tmp_path / "x.h5", places=places()))
    assert cache.places is not None
    for name, column in PLACES.items():
        assert getattr(cache.places, name).tolist() == column
    assert cache.attributes["videos"] == 2
    assert cache.places.names() == ["a#t=0,2", "a#t=1.5,3.5", "b#t=0,0.04"]
    assert EmbeddingCache(write(tmp_path / "y.h5")).places is None


@pytest.mark.parametrize(
    "changed",
    [
        {"end": [2, 1.5, 1]},
        {"start": [0, -1, 0]},
        {"end": [2, np.inf, 1]},
        {"end": [2, 3.5]},
    ],
)
def test_windows_that_lie_nowhere_are_refused(tmp_path: Path, changed: dict[str, list]) -> None:
    path = write(tmp_path / "x.h5", places=places(**changed))
    assert "a window" in refused(path) or "differ in length" in refused(path)


# --- files that are none ---------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(CacheError) as caught:
        EmbeddingCache(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "x.h5").endswith(": no such embedding cache")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)
    assert "not an embedding cache" in refused(tmp_path / "x.h5")


def edit(change: Callable[[h5py.File], object], path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def _lengthen(name: str) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        data = file[name][:]
        del file[name]
        kind = h5py.string_dtype() if data.dtype == object else data.dtype
        file.create_dataset(name, data=np.concatenate([data, data[:1]]), dtype=kind)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.attrs.pop("format"),
        lambda f: f.attrs.create("format", "soon"),
        lambda f: f.__delitem__("backbone"),
        lambda f: f.move("video", "videos"),
        _lengthen("backbone"),
        _lengthen("video"),
        _lengthen("split2"),
    ],
)
def test_file_that_lacks_something(tmp_path: Path, change: Callable[[h5py.File], object]) -> None:
    assert "not an embedding cache" in refused(edit(change, write(tmp_path / "x.h5")))


def test_newer_and_older_formats(tmp_path: Path) -> None:
    path = edit(lambda f: f.attrs.modify("format", 3), write(tmp_path / "x.h5"))
    assert "format 3, but this slic reads 2" in refused(path)
    assert not is_outdated(path)
    edit(lambda f: f.attrs.modify("format", 1), path)
    assert "(format 1, now 2); delete it" in refused(path)
    assert is_outdated(path)


def test_any_flipped_bit_is_seen_or_harmless(tmp_path: Path) -> None:
    """In rows, ids, labels, attributes and HDF5's own structures; some bytes mean nothing."""
    path = write(tmp_path / "x.h5", places=places(), attributes=dict.fromkeys("abcdefghij", "x"))
    whole, right = path.read_bytes(), vars(EmbeddingCache(path))
    rng = np.random.default_rng(0)
    seen = 0
    for place in range(0, len(whole), 29):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            found = vars(EmbeddingCache(path))
        except CacheError:
            seen += 1
        else:
            assert str(found) == str(right)
    assert seen > 150
