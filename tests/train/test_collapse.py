"""Embeddings that are not finite, and collapsed ones, are noticed and named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slic.cache import ClipStore
from slic.config import make_settings
from slic.engine.forward import ComputeOptions
from slic.errors import WorkError
from slic.runs import Run, create_run
from slic.train import recluster
from slic.train.recluster import COLLAPSED, mean_distance
from slic.train.training import training

CPU = torch.device("cpu")
SETTINGS = make_settings(
    "cpu-small",
    options={
        "frames": 4,
        "size": 16,
        "epochs": 1,
        "lr": 1e-12,
        "batch_size": 6,
        "cluster_every": 1,
        "warmup_epochs": 1,
    },
)


def new_run(folder: Path, store: Path) -> Run:
    digest = ClipStore(store).digest(flow=True)
    return create_run(folder, SETTINGS, store=store, store_digest=digest, preset="cpu-small")


@pytest.mark.parametrize("zeros", [0, 1, 3])
@pytest.mark.parametrize(("count", "width"), [(2, 1), (7, 3), (30, 128)])
def test_mean_distance_is_that_of_all_pairs(count, width, zeros):
    rng = np.random.default_rng(count + zeros)
    rows = rng.standard_normal((count, width)).astype(np.float32)
    rows[:zeros] = 0
    cosines = []
    for i in range(count):
        for j in range(count):
            if i != j:
                a, b = rows[i].astype(float), rows[j].astype(float)
                size = np.linalg.norm(a) * np.linalg.norm(b)
                cosines.append(a @ b / size if size else 0.0)
    assert mean_distance(rows) == pytest.approx(1 - np.mean(cosines), abs=1e-9)


def test_equal_rows_have_collapsed_and_random_ones_have_not():
    row = np.random.default_rng(0).standard_normal(128).astype(np.float32)
    assert mean_distance(np.tile(row, (50, 1))) == pytest.approx(0, abs=1e-9)
    # Each at 1e-5 of the length of the common row: cosine distances of about 1e-10.
    near = row + 1e-5 * np.random.default_rng(1).standard_normal((50, 128)).astype(np.float32)
    assert mean_distance(near) < COLLAPSED
    apart = np.random.default_rng(2).standard_normal((50, 128)).astype(np.float32)
    assert mean_distance(apart) > COLLAPSED


def test_embeddings_that_are_not_finite_name_their_videos(drawn_store, tmp_path, monkeypatch):
    real = recluster.embed

    def broken(*args, **options):
        backbone, projection = real(*args, **options)
        projection[1, 2], projection[3, 0] = np.nan, np.inf
        return backbone, projection

    monkeypatch.setattr(recluster, "embed", broken)
    run = new_run(tmp_path / "run", drawn_store)
    with training(run, compute=ComputeOptions(CPU), say=str) as (method, loop):
        ids = [repr(entry.id) for entry in method.entries]
        with pytest.raises(WorkError, match=f"2 of 18 .*{ids[1]}, {ids[3]}"):
            loop()


def test_a_collapse_is_said_and_recorded(drawn_store, tmp_path):
    """A head whose last layer gives nothing but its bias maps all videos onto one point."""
    run = new_run(tmp_path / "run", drawn_store)
    said: list[str] = []
    with training(run, compute=ComputeOptions(CPU), say=said.append) as (method, loop):
        last = [m for m in method.encoder.modules() if isinstance(m, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(1.0)
        loop()
    told = [line for line in said if "collapsed" in line]
    records = run.records("clustering")
    assert len(told) == len(records) == 2
    assert all(0 <= record["distance"] < 1e-6 for record in records)
    healthy: list[str] = []
    other = new_run(tmp_path / "other", drawn_store)
    with training(other, compute=ComputeOptions(CPU), say=healthy.append) as (_, loop):
        loop()
    assert not [line for line in healthy if "collapsed" in line]
    assert all(record["distance"] > 1e-3 for record in other.records("clustering"))
