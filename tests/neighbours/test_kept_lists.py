"""The IVF index kept beside an embedding cache of very many rows (here few: the bound is moved)."""

import mmap
import struct
from pathlib import Path

import numpy as np
import pytest

from slic.cache import EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.neighbours import kept as kept_index
from slic.neighbours import lists as inverted_lists
from slic.neighbours.exact import nearest, unit_float32
from slic.neighbours.kept import index_fault, index_path, seal_of, unit_rows
from slic.neighbours.kept_lists import HEADER
from slic.neighbours.lists import Lists, build_lists
from slic.search.nearest import nearest_moments

SIZE, WIDTH = 57, 13
OF = 12  # bytes that tie an index to its cache
SEAL = 12


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_lists, "APPROXIMATE_FROM", 3)


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


def lists_of(cache: EmbeddingCache) -> tuple[Lists, list[str]]:
    said: list[str] = []
    found = unit_rows(cache, "backbone", say=said.append)
    assert isinstance(found, Lists)
    return found, said


def same(some: Lists, others: Lists) -> bool:
    return all(
        np.array_equal(one, other)
        for one, other in zip(vars(some).values(), vars(others).values(), strict=True)
    )


def test_it_is_built_once_said_each_time_and_mapped(cache):
    first, told = lists_of(cache)
    path = index_path(cache.path, "backbone")
    before = path.stat()
    again, told_again = lists_of(EmbeddingCache(cache.path))
    assert (before.st_mtime_ns, before.st_ino) == (path.stat().st_mtime_ns, path.stat().st_ino)
    assert same(first, build_lists(unit_float32(rows_of(0), name="rows"), k=1))
    assert same(first, again)
    assert told == told_again == [first.told]
    base = again.rows
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    assert index_fault(path) is None


@pytest.mark.parametrize(("size", "width", "k"), [(3, 1, 2), (57, 13, 4), (1000, 7, 10)])
def test_a_search_in_it_lists_what_brute_force_does(tmp_path, size, width, k):
    cache = make(tmp_path / "a.h5", rows_of(size, size, width))
    lists_of(cache)
    lists, _ = lists_of(cache)
    units = unit_float32(cache.backbone, name="rows")
    queries = units[:5]
    own = [None] * len(queries)
    answers = nearest_moments(queries, own, lists, cache, k=k)
    exact = nearest(queries, units, k=k)[1]
    found = [[row for row, _ in answer] for answer in answers]
    right = [len(set(some) & set(others)) for some, others in zip(found, exact, strict=True)]
    assert sum(right) / exact.size > 0.7
    for query, answer in zip(queries, answers, strict=True):
        assert len(answer) == min(k, size)
        for row, similarity in answer:
            assert units[row] @ query == pytest.approx(similarity, abs=1e-6)
    everything = nearest_moments(queries, own, lists, cache, k=size)
    assert all({row for row, _ in answer} == set(range(size)) for answer in everything)


def resealed(content: bytes, at: int, value: bytes) -> bytes:
    """What a stranger can make: a value changed, and the sum made right again."""
    body = content[:at] + value + content[at + len(value) : -SEAL]
    return body + seal_of(body)


def forged(content: bytes) -> dict[str, bytes]:
    kind, count, width, lists, *rest = HEADER.unpack(content[: HEADER.size])
    offsets, order = HEADER.size, HEADER.size + 8 * (lists + 1)

    def header(**changed: float) -> bytes:
        told = dict(zip(("probes", "sample", "k", "recall"), rest, strict=True))
        sizes = {"count": count, "width": width, "lists": lists, **told} | changed
        return resealed(content, 0, HEADER.pack(kind, *sizes.values()))

    return {
        "more rows": header(count=1 << 40),
        "wider": header(width=1 << 61),
        "more lists": header(lists=1 << 60),
        "one list more": header(lists=lists + 1),
        "no lists": header(lists=0, probes=0),
        "no probes": header(probes=0),
        "more probes than lists": header(probes=lists + 1),
        "a sample of more rows than there are": header(sample=count + 1),
        "more neighbours than rows": header(k=1 << 60),
        "a recall above all": header(recall=1e300),
        "a recall that is no number": header(recall=float("nan")),
        "a list before the first row": resealed(content, offsets, struct.pack("<q", -1)),
        "a list behind the last row": resealed(content, offsets + 8, struct.pack("<q", 1 << 40)),
        "a list that ends before it begins": resealed(content, offsets + 8, struct.pack("<q", -5)),
        "lists short of the last row": resealed(content, order - 8, struct.pack("<q", count - 1)),
        "a row that there is not": resealed(content, order, struct.pack("<q", count)),
        "a row below the first": resealed(content, order, struct.pack("<q", -1)),
        "a row twice": resealed(content, order, content[order + 8 : order + 16]),
        "an exact index": b"IxFI" + content[4:],
        "short": content[:40],
        "longer": content + b"x",
    }


@pytest.mark.parametrize("how", [*forged(HEADER.pack(b"", *[1] * 6, 0.0) + bytes(200))])
def test_a_forged_index_is_made_again(cache, how):
    first, _ = lists_of(cache)
    path = index_path(cache.path, "backbone")
    content = path.read_bytes()
    path.write_bytes(forged(content)[how])
    assert index_fault(path)
    again, said = lists_of(cache)
    assert same(first, again)
    assert len(said) == 2
    assert str(path) in said[0]
    assert path.read_bytes() == content


def test_every_truncation_and_flip_is_noticed(tmp_path, monkeypatch):
    cache = make(tmp_path / "a.h5", rows_of(3, 3, 1))
    lists_of(cache)
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


def test_an_exact_index_of_so_many_rows_is_made_again(cache, monkeypatch):
    monkeypatch.setattr(inverted_lists, "APPROXIMATE_FROM", 1000)
    unit_rows(cache, "backbone", say=str)
    monkeypatch.setattr(inverted_lists, "APPROXIMATE_FROM", 3)
    assert index_fault(index_path(cache.path, "backbone"))
    _, said = lists_of(cache)
    assert len(said) == 2
    _, said = lists_of(cache)
    assert len(said) == 1


@pytest.mark.parametrize("what", ["rows", "centres and rows"])
def test_numbers_that_are_none_lead_to_no_crash(cache, what):
    first, _ = lists_of(cache)
    path = index_path(cache.path, "backbone")
    content = path.read_bytes()
    end = len(content) - OF - SEAL
    rows = 4 * SIZE * WIDTH
    all_of_it = rows + 4 * WIDTH * len(first.centres)
    length = {"rows": rows, "centres and rows": all_of_it}[what]
    path.write_bytes(resealed(content, end - length, b"\xff" * length))
    assert index_fault(path) is None
    lists, _ = lists_of(cache)
    queries = unit_float32(rows_of(1, 3), name="rows")
    assert len(nearest_moments(queries, [None] * 3, lists, cache, k=2)) == 3
