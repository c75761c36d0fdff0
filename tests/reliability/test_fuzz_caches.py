"""Damaged embedding caches and clusters.h5: refused in one line, or read as they were written."""

import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import fuzz, mutated, outcome, soak

from slic.cache import EmbeddingCache
from slic.cache.clusterings import read_clusterings, record_clusters
from slic.cache.embeddings import write_embeddings
from slic.errors import CacheError, CheckpointError

IDS = [f"Run/{number}.avi" for number in range(20)]
ROWS = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)


def make(folder: Path) -> None:
    write_embeddings(
        folder / "embeddings.h5",
        IDS,
        backbone=ROWS,
        projection=np.repeat(ROWS, 8, axis=1),
        labels=["Run"] * 20,
        splits={1: ["train", "test"] * 10},
        attributes={"checkpoint": "e1-abc", "clips": 10},
    )
    record_clusters(folder / "clusters.h5", 0, {video: n % 3 for n, video in enumerate(IDS)})


def content(path: Path) -> list[Any]:
    """Read all of a file."""
    if path.name.endswith("clusters.h5"):
        found = read_clusterings(path)
        return [found.ids, {name: rows.tolist() for name, rows in found.named.items()}]
    cache = EmbeddingCache(path)
    splits = {number: words.tolist() for number, words in cache.splits.items()}
    labels = None if cache.labels is None else cache.labels.tolist()
    rows = (cache.backbone.tobytes(), cache.projection.tobytes())
    return [cache.ids.tolist(), *rows, labels, splits, cache.attributes]


def case(folder: Path, rng: random.Random) -> str:
    name = rng.choice(["embeddings.h5", "embeddings.h5", "clusters.h5"])
    path = folder / f"own-{name}"
    path.write_bytes(mutated((folder / name).read_bytes(), rng))

    def read() -> None:
        assert content(path) == content(folder / name), "damage was read as something else"

    return outcome(read)


test_mutated_caches = fuzz(make, case, examples=200)


def soak_fuzz_caches(seed: int, minutes: float) -> dict[str, Any]:
    """Damage caches until the time is over."""
    return soak(make, case, seed=seed, minutes=minutes)


ODD: dict[str, Any] = {
    "a scalar": np.float32(1),
    "integers": np.ones((20, 16), np.int32),
    "fewer rows": np.ones((3, 16), np.float32),
    "a video twice": np.array([b"Run/0.avi"] * 20, h5py.string_dtype("utf-8", 9)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["video", "backbone", "split"])
def test_datasets_of_another_kind_are_refused(tmp_path: Path, odd: str, name: str) -> None:
    make(tmp_path)
    path = tmp_path / "embeddings.h5"
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = ODD[odd]
    with pytest.raises(CacheError) as caught:
        EmbeddingCache(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["epoch00000", "video"])
def test_damaged_clusters_are_not_overwritten(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    path = tmp_path / "clusters.h5"
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.ones((20, 2))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="move it away"):
        record_clusters(path, 1, dict.fromkeys(IDS, 2))
    assert path.read_bytes() == before
