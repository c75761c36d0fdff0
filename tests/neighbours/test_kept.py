"""The search index kept beside an embedding cache: exact, reused, and safe from strangers."""

import mmap
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from slic.cache import EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.errors import WorkError
from slic.neighbours import kept as kept_index
from slic.neighbours.exact import nearest, nearest_units, unit_float32
from slic.neighbours.kept import index_fault, index_path, seal_of, unit_rows

SIZE, WIDTH = 57, 13


def rows_of(seed: int, size: int = SIZE, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32)


def make(path: Path, rows: np.ndarray) -> EmbeddingCache:
    write_embeddings(
        path,
        [f"v{number}" for number in range(len(rows))],
        backbone=rows,
        projection=-rows[:, ::-1],
        labels=[None] * len(rows),
        splits={},
        attributes={},
    )
    return EmbeddingCache(path)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return make(tmp_path / "a.h5", rows_of(0))


def silent(line: str) -> None:
    raise AssertionError(line)


def test_it_is_an_index_of_faiss_with_the_rows_of_the_cache(cache):
    import faiss

    for feature in ("backbone", "projection"):
        unit_rows(cache, feature, say=silent)
        index = faiss.read_index(str(index_path(cache.path, feature)))
        assert type(index) is faiss.IndexFlatIP
        own = unit_float32(getattr(cache, feature), name="rows")
        np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), own)
        queries = unit_float32(rows_of(1, 7), name="queries")
        for theirs, ours in zip(index.search(queries, 5), nearest(queries, own, k=5), strict=True):
            np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(("size", "width"), [(1, 1), (2, 3), (301, 128), (1000, 7)])
def test_answers_are_those_of_a_loop_in_float64(tmp_path, size, width):
    cache = make(tmp_path / "a.h5", rows_of(size, size, width))
    unit_rows(cache, "backbone", say=silent)
    queries = rows_of(2, 6, width)
    units = unit_rows(cache, "backbone", say=silent)
    k = min(4, size)
    similarity, found = nearest_units(unit_float32(queries, name="q"), units, k=k)
    for query, values, places in zip(queries.astype(float), similarity, found, strict=True):
        rows = cache.backbone.astype(float)
        cosine = [r @ query / np.linalg.norm(r) / np.linalg.norm(query) for r in rows]
        best = np.sort(cosine)[::-1][:k]
        np.testing.assert_allclose(values, best, atol=1e-6)
        np.testing.assert_allclose(np.array(cosine)[places], best, atol=1e-6)


def test_it_is_built_once_and_mapped(cache):
    first = unit_rows(cache, "backbone", say=silent)
    path = index_path(cache.path, "backbone")
    before = path.stat()
    again = unit_rows(EmbeddingCache(cache.path), "backbone", say=silent)
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    np.testing.assert_array_equal(first, again)
    base = again
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    assert not again.flags.writeable


def damaged(content: bytes) -> dict[str, bytes]:
    """What may become of an index, and what a stranger may make of it."""
    flipped = bytearray(content)
    flipped[100] ^= 1
    more = struct.pack("<q", 1 << 40)
    resealed = content[:8] + more + content[16:-12]
    return {
        "flipped": bytes(flipped),
        "cut": content[:-1],
        "empty": b"",
        "longer": content + b"x",
        "more rows than there are": resealed + seal_of(resealed),
        "another index": b"IwFl" + content[4:],
        "without a seal": content[:-12] + bytes(12),
        "text": b"hello" * 1000,
    }


@pytest.mark.parametrize("how", [*damaged(bytes(200))])
def test_a_damaged_index_is_made_again(cache, how):
    path = index_path(cache.path, "backbone")
    whole = unit_rows(cache, "backbone", say=silent)
    content = path.read_bytes()
    path.write_bytes(damaged(content)[how])
    assert index_fault(path)
    said: list[str] = []
    np.testing.assert_array_equal(unit_rows(cache, "backbone", say=said.append), whole)
    assert len(said) == 1
    assert str(path) in said[0]
    assert path.read_bytes() == content
    assert index_fault(path) is None


def test_every_truncation_and_flip_is_noticed(tmp_path, monkeypatch):
    cache = make(tmp_path / "a.h5", rows_of(3, 3, 2))
    unit_rows(cache, "backbone", say=silent)
    path = index_path(cache.path, "backbone")
    content = path.read_bytes()
    monkeypatch.setattr(kept_index, "EmbeddingCache", lambda _: cache)  # opened once
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert index_fault(path), length
        turned = bytearray(content)
        turned[length] ^= 1 << length % 8
        path.write_bytes(turned)
        assert index_fault(path), length


def test_an_index_of_another_cache_of_that_size_is_made_again(cache, tmp_path):
    other = make(tmp_path / "b.h5", rows_of(9))
    unit_rows(other, "backbone", say=silent)
    shutil.copy(index_path(other.path, "backbone"), index_path(cache.path, "backbone"))
    assert "another cache" in str(index_fault(index_path(cache.path, "backbone")))
    said: list[str] = []
    found = unit_rows(cache, "backbone", say=said.append)
    assert len(said) == 1
    np.testing.assert_array_equal(found, unit_float32(rows_of(0), name="rows"))


def test_an_index_without_its_cache_is_a_fault(cache):
    unit_rows(cache, "projection", say=silent)
    cache.path.unlink()
    assert index_fault(index_path(cache.path, "projection"))
    assert index_fault(cache.path.with_name("mine.faiss"))


def test_where_nothing_can_be_kept_the_rows_are_still_there(cache):
    index_path(cache.path, "backbone").mkdir()  # as good as a read-only folder, for root too
    said: list[str] = []
    found = unit_rows(cache, "backbone", say=said.append)
    np.testing.assert_array_equal(found, unit_float32(cache.backbone, name="rows"))
    assert said
    assert not list(cache.path.parent.glob(".*"))


def test_rows_that_are_not_finite_are_refused(tmp_path):
    rows = rows_of(0)
    rows[3, 4] = np.nan
    cache = make(tmp_path / "a.h5", rows)
    with pytest.raises(WorkError, match="NaN"):
        unit_rows(cache, "backbone", say=silent)
    assert not index_path(cache.path, "backbone").exists()
