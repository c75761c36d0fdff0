"""The IVF index saved beside a cache of very many rows (here few: the bound is moved)."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slic.cache import EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.errors import WorkError
from slic.neighbours import ivf, saved_index
from slic.neighbours.exact import nearest, unit_float32
from slic.neighbours.ivf import IvfIndex, build_ivf_index
from slic.neighbours.saved_index import (
    index_fault,
    index_path,
    index_paths,
    saved_indexes,
    stray_indexes,
    unit_rows,
)
from slic.search.nearest import nearest_moments

SIZE, WIDTH = 57, 13


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 3)


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


def loaded(cache: EmbeddingCache) -> tuple[IvfIndex, list[str]]:
    said: list[str] = []
    index = unit_rows(cache, "backbone", say=said.append)
    assert isinstance(index, IvfIndex)
    return index, said


def assert_same(some: IvfIndex, others: IvfIndex) -> None:
    for name, value in vars(some).items():
        other = vars(others)[name]
        assert type(value) is type(other)
        np.testing.assert_array_equal(value, other)


def test_fewer_rows_need_no_index(cache, monkeypatch):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", SIZE + 1)
    rows = unit_rows(cache, "projection", say=pytest.fail)
    np.testing.assert_array_equal(rows, unit_float32(cache.projection, name="rows"))
    assert not saved_indexes(cache.path.parent)


def test_it_is_built_once_and_announced_each_time(cache):
    first, said = loaded(cache)
    path = index_path(cache.path, "backbone")
    before = path.stat()
    again, said_again = loaded(EmbeddingCache(cache.path))
    assert (before.st_mtime_ns, before.st_ino) == (path.stat().st_mtime_ns, path.stat().st_ino)
    assert_same(first, build_ivf_index(unit_float32(rows_of(0), name="rows"), k=1))
    assert_same(first, again)
    assert said == said_again == [first.summary]
    assert index_fault(path) is None
    assert index_paths(cache.path) == [path]


@pytest.mark.parametrize(("size", "width", "k"), [(3, 1, 2), (57, 13, 4), (1000, 7, 10)])
def test_a_search_in_it_lists_what_brute_force_does(tmp_path, size, width, k):
    cache = make(tmp_path / "a.h5", rows_of(size, size, width))
    loaded(cache)
    index, _ = loaded(cache)
    units = unit_float32(cache.backbone, name="rows")
    queries, own = units[:5], [None] * len(units[:5])
    answers = nearest_moments(queries, own, index, cache, k=k)
    exact = nearest(queries, units, k=k)[1]
    found = [[row for row, _ in answer] for answer in answers]
    right = [len(set(some) & set(others)) for some, others in zip(found, exact, strict=True)]
    assert sum(right) / exact.size > 0.7
    for query, answer in zip(queries, answers, strict=True):
        assert len(answer) == min(k, size)
        for row, similarity in answer:
            assert units[row] @ query == pytest.approx(similarity, abs=1e-6)
    everything = nearest_moments(queries, own, index, cache, k=size)
    assert all({row for row, _ in answer} == set(range(size)) for answer in everything)


def test_damage_is_noticed_or_harmless(tmp_path, monkeypatch):
    cache = make(tmp_path / "a.h5", rows_of(3, 3, 1))
    first, _ = loaded(cache)
    path = index_path(cache.path, "backbone")
    content = path.read_bytes()
    monkeypatch.setattr(saved_index, "EmbeddingCache", lambda _: cache)  # opened once
    for place in range(len(content)):
        turned = bytearray(content)
        turned[place] ^= 1 << place % 8
        path.write_bytes(turned)
        if index_fault(path) is None:
            assert_same(saved_index._load(path, cache.backbone), first)
        if place % 7 == 0:
            path.write_bytes(content[:place])
            assert index_fault(path), place


def forged(**changed: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **changed)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello" * 1000, forged(of="another"), forged(rows=np.zeros(3)), forged(of=np.zeros(9))],
)
def test_what_is_no_index_is_made_again(cache, content):
    first, _ = loaded(cache)
    path = index_path(cache.path, "backbone")
    path.write_bytes(content)
    assert index_fault(path)
    again, said = loaded(cache)
    assert_same(first, again)
    assert len(said) == 2
    assert said[0].startswith(f"{path}: ")
    assert index_fault(path) is None


def test_an_index_of_another_cache_of_that_size_is_made_again(cache, tmp_path):
    other = make(tmp_path / "b.h5", rows_of(9))
    loaded(other)
    shutil.copy(index_path(other.path, "backbone"), index_path(cache.path, "backbone"))
    assert "another cache" in str(index_fault(index_path(cache.path, "backbone")))
    index, said = loaded(cache)
    assert len(said) == 2
    assert_same(index, build_ivf_index(unit_float32(rows_of(0), name="rows"), k=1))


def test_indexes_without_a_cache_and_of_the_first_version_are_faults(cache):
    loaded(cache)
    path = index_path(cache.path, "backbone")
    old = path.with_suffix(".faiss")
    old.write_bytes(b"IxFI")
    assert index_paths(cache.path) == [path, old]
    assert stray_indexes(cache.path.parent) == []
    assert "earlier version" in str(index_fault(old))
    cache.path.unlink()
    assert stray_indexes(cache.path.parent) == [old, path]
    assert index_fault(path)
    assert index_fault(cache.path.with_name("mine.npz"))


def test_where_nothing_can_be_saved_the_index_is_still_there(cache):
    index_path(cache.path, "backbone").mkdir()  # as good as a read-only folder, for root too
    index, said = loaded(cache)
    assert_same(index, build_ivf_index(unit_float32(rows_of(0), name="rows"), k=1))
    assert len(said) == 3
    assert not list(cache.path.parent.glob(".*"))


def test_rows_that_are_not_finite_are_refused(tmp_path):
    rows = rows_of(0)
    rows[3, 4] = np.nan
    cache = make(tmp_path / "a.h5", rows)
    with pytest.raises(WorkError, match="NaN"):
        unit_rows(cache, "backbone", say=pytest.fail)
    assert not index_path(cache.path, "backbone").exists()
