"""Embedding caches and clusters.h5 as strangers or failing disks make them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import fuzz, mutated, outcome, soak

from slic.cache import EmbeddingCache
from slic.cache.clusterings import record_clusters
from slic.cache.embeddings import write_embeddings
from slic.errors import CacheError, CheckpointError

IDS = [f"Run/{number}.avi" for number in range(20)]
ROWS = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
NAMES = ("video", "backbone", "projection", "label", "split")


def make(folder: Path) -> None:
    write_embeddings(
        folder / "pristine.h5",
        IDS,
        backbone=ROWS,
        projection=np.repeat(ROWS, 8, axis=1),
        labels=["Run"] * 20,
        splits={1: ["train", "test"] * 10},
        attributes={"checkpoint": "e1-abc", "clips": 10},
    )
    record_clusters(folder / "clusters.h5", 0, dict.fromkeys(IDS, 1))


def sound(path: Path) -> None:
    """Read a cache; what is accepted is what its attributes promise."""
    cache = EmbeddingCache(path)
    assert cache.backbone.dtype == cache.projection.dtype == np.float32
    assert cache.backbone.ndim == cache.projection.ndim == 2
    columns = [cache.ids, cache.backbone, cache.projection, *cache.splits.values()]
    assert {len(column) for column in columns} == {len(cache.ids)}
    assert len(set(cache.ids.tolist())) == len(cache.ids)


def bytes_case(folder: Path, rng: random.Random) -> str:
    path = folder / "own.h5"
    path.write_bytes(mutated((folder / "pristine.h5").read_bytes(), rng))
    return outcome(lambda: sound(path))


def clusters_case(folder: Path, rng: random.Random) -> str:
    path = folder / "own-clusters.h5"
    path.write_bytes(mutated((folder / "clusters.h5").read_bytes(), rng))
    return outcome(lambda: record_clusters(path, 1, dict.fromkeys(IDS, 2)))


def _replace(file: h5py.File, name: str, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, **how)


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


CHANGES: dict[str, Callable[[h5py.File, str], None]] = {
    "group": _group,
    "null": lambda f, n: _replace(f, n, data=h5py.Empty("f4")),
    "scalar": lambda f, n: _replace(f, n, data=np.float32(1)),
    "whole numbers": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.int32)),
    "half": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.float16)),
    "complex": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.complex64)),
    "one dimension more": lambda f, n: _replace(f, n, data=np.ones((20, 16, 2), np.float32)),
    "references": lambda f, n: _replace(f, n, data=[f.ref] * 20, dtype=h5py.ref_dtype),
    "lists": lambda f, n: _replace(f, n, shape=(20,), dtype=h5py.vlen_dtype(np.float32)),
    "opaque": lambda f, n: _replace(f, n, data=np.zeros(20, np.dtype("V8"))),
    "records": lambda f, n: _replace(f, n, data=np.zeros(20, [("a", "f4"), ("b", "S4")])),
    "twice": lambda f, n: _replace(f, n, data=["Run/0.avi"] * 20, dtype=h5py.string_dtype()),
    "no UTF-8": lambda f, n: _replace(f, n, data=[b"\xff\xfe"] * 20, dtype=h5py.string_dtype()),
}
ATTRIBUTES: dict[str, Any] = {
    "format": [
        0,
        -1,
        1,
        3,
        10**18,
        1.5,
        np.inf,
        np.nan,
        "1",
        [1],
        np.ones((2, 2)),
        h5py.Empty("i4"),
    ],
    "extra": [h5py.Empty("f4"), [1, 2, 3], np.void(b"x"), "a\nb", 10**18, np.inf],
}


def change_case(folder: Path, rng: random.Random) -> str:
    """One data set or attribute replaced by what is no such thing."""
    path = folder / "own.h5"
    path.write_bytes((folder / "pristine.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        if rng.random() < 0.2:
            name = rng.choice(list(ATTRIBUTES))
            file.attrs[name] = rng.choice(ATTRIBUTES[name])
        else:
            CHANGES[rng.choice(list(CHANGES))](file, rng.choice(NAMES))
    return outcome(lambda: sound(path))


CASES = {
    "bytes": bytes_case,
    "clusters": clusters_case,
    "changes": change_case,
}
test_mutated_caches = fuzz(make, bytes_case, examples=200)
test_mutated_clusters = fuzz(make, clusters_case, examples=100)
test_caches_of_other_content = fuzz(make, change_case, examples=150)


def soak_fuzz_caches(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes, an equal share each."""
    share = minutes / len(CASES)
    return {name: soak(make, case, seed=seed, minutes=share) for name, case in CASES.items()}


# --- each thing that a stranger may try ------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["video", "backbone", "split"])
def test_what_is_not_the_files_own_rows(tmp_path: Path, change: str, name: str) -> None:
    make(tmp_path)
    path = tmp_path / "pristine.h5"
    with h5py.File(path, "r+") as file:
        CHANGES[change](file, name)
    with pytest.raises(CacheError) as caught:
        EmbeddingCache(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", ["epoch00000", "video"])
def test_damaged_clusters_are_told_apart_from_those_of_other_videos(
    tmp_path: Path, value: str
) -> None:
    make(tmp_path)
    path = tmp_path / "clusters.h5"
    with h5py.File(path, "r+") as file:
        _replace(file, value, data=np.ones((20, 2)))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="move it away"):
        record_clusters(path, 1, dict.fromkeys(IDS, 2))
    assert path.read_bytes() == before
