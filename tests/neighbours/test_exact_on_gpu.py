"""The search of a GPU, on the CPU: the same code but for the device."""

from functools import partial

import numpy as np
import pytest
import torch

from slic.neighbours import exact as neighbours
from slic.neighbours.exact import _gpu_for, search_blocks

CPU = torch.device("cpu")


def naive(rows: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """Largest products of each row, one by one in float64."""
    return np.array(
        [sorted((float(row @ other) for other in gallery), reverse=True)[:k] for row in rows]
    )


@pytest.mark.parametrize(("queries", "others"), [(1, 1), (3, 7), (64, 5), (10, 1000)])
@pytest.mark.parametrize("k", [1, 2, 9, 43])
def test_blocks_of_any_size_give_what_a_naive_loop_finds(queries, others, k):
    random = np.random.default_rng(k)
    gallery = random.integers(-2, 3, size=(43, 3)).astype(np.float32)  # full of ties
    gallery[5] = gallery[17] = gallery[40]
    rows = random.integers(-2, 3, size=(10, 3)).astype(np.float32)
    sizes = {"block": queries, "gallery_block": others}
    product, index = search_blocks(rows, gallery, k=k, device=CPU, **sizes)
    assert (product.dtype, index.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(product, naive(rows, gallery, k))
    np.testing.assert_array_equal(np.einsum("qd,qkd->qk", rows, gallery[index]), product)
    assert all(len(set(found)) == k for found in index.tolist())


def test_neighbours_found_on_a_device_are_those_of_faiss(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(500, 8))
    rows.setflags(write=False)
    similarity, found = neighbours.nearest(rows[:77], rows, k=6)
    first = neighbours.first_neighbours(rows)
    monkeypatch.setattr(neighbours, "_gpu_for", lambda _: CPU)
    blocks = partial(search_blocks, block=64, gallery_block=33)
    monkeypatch.setattr(neighbours, "search_blocks", blocks)
    again = neighbours.nearest(rows[:77], rows, k=6)
    np.testing.assert_allclose(again[0], similarity, atol=1e-6)
    np.testing.assert_array_equal(again[1], found)
    np.testing.assert_array_equal(neighbours.first_neighbours(rows), first)


def test_a_gpu_is_for_large_searches_of_a_process_that_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda number: [0, 7, 0][number])
    assert _gpu_for(1e9) is None
    assert _gpu_for(1e12) == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert _gpu_for(1e12) is None  # it is there, but `--device cpu` was given


def test_a_full_gpu_leaves_the_search_to_the_cores(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 4))
    expected = neighbours.first_neighbours(rows)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(neighbours, "_gpu_for", lambda _: CPU)
    monkeypatch.setattr(neighbours, "search_blocks", full)
    np.testing.assert_array_equal(neighbours.first_neighbours(rows), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_finds_what_faiss_finds():
    rows = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)
    product, index = search_blocks(rows[:9_000], rows, k=3, device=torch.device("cuda"))
    theirs, where = neighbours.products(rows[:9_000], rows, k=3)
    np.testing.assert_allclose(product, theirs, rtol=1e-5)
    assert (index == where).mean() > 0.999
