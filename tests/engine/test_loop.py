import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.encoders.checkpoints import load_checkpoint
from slic.engine.forward import ComputeOptions
from slic.errors import CheckpointError, StoreError
from slic.runs import Run, create_run
from slic.train.methods import slic as method
from slic.train.methods.slic import SLIC
from slic.train.outcome import is_done, result
from slic.train.sampling import VideoTriplet
from slic.train.training import training
from slic.train.training_set import training_entries

CPU = torch.device("cpu")
# 18 training videos: 2 steps an epoch. FINCH clusters from epoch 1 on, flow in half of the views.
INFONCE = make_settings(
    "cpu-small",
    options={"frames": 4, "size": 16, "epochs": 2, "batch_size": 9, "cluster_every": 1}
    | {"warmup_epochs": 1},
)
TRIPLET = replace(
    INFONCE, objective="triplet", optimiser="sgd", lr=0.1, warmup_epochs=0, schedule="constant"
)


def new_run(folder: Path, store: Path, settings: Settings) -> Run:
    digest = ClipStore(store).digest()
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def train(run: Run, **options: Any) -> None:
    with training(run, compute=ComputeOptions(CPU), **options) as (_, loop):
        loop()


@pytest.fixture(scope="module")
def whole(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each objective, trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    runs = {}
    for name, settings in (("infonce", INFONCE), ("triplet", TRIPLET)):
        runs[name] = new_run(folder / name, drawn_store, settings)
        train(runs[name])
    return runs


@pytest.mark.parametrize("objective", ["infonce", "triplet"])
def test_metrics_are_complete(whole, objective):
    run = whole[objective]
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    kinds = [(line["kind"], line["step"], line["epoch"]) for line in lines]
    assert kinds == [
        ("clustering", 0, 0),
        ("epoch", 2, 0),
        ("clustering", 2, 1),
        ("epoch", 4, 1),
        ("clustering", 4, 2),
        ("done", 4, 2),
    ]
    for line in run.records("clustering"):
        assert {"clusters", "nmi", "ami", "recall", "in_use"} <= line.keys()
        assert set(line["recall"]) == {"1", "5"}
    both = {"loss", "skipped", "false_positive_rate", "false_negative_rate", "samples", "lr"}
    more = {"instance_loss", "temporal_loss", "fallback"} if objective == "triplet" else set()
    for line in run.records("epoch"):
        assert both | more | {"seconds"} <= line.keys()
        assert line["samples"] == 18
        assert np.isfinite(line["loss"])
        if objective == "triplet":
            total = line["instance_loss"] + line["temporal_loss"]
            assert line["loss"] == pytest.approx(total)
    in_use = [line["in_use"] for line in run.records("clustering")]
    assert in_use == ([False, True, True] if objective == "infonce" else [True] * 3)


def test_a_result_names_what_the_run_came_to(whole):
    run = whole["triplet"]
    found = result(run)
    last = run.records("clustering")[-1]
    assert (found["epochs"], found["steps"]) == (2, 4)
    assert found["loss"] == run.records("epoch")[-1]["loss"]
    assert {key: found[key] for key in ("clusters", "nmi", "recall")} == {
        key: last[key] for key in ("clusters", "nmi", "recall")
    }
    assert Path(found["checkpoint"]).is_file()
    assert is_done(run)


def test_a_run_whose_lines_are_lost_says_so(whole, drawn_store, tmp_path):
    run = new_run(tmp_path / "run", drawn_store, INFONCE)
    run.checkpoint.write_bytes(whole["infonce"].checkpoint.read_bytes())
    train(run)
    assert is_done(run)
    with pytest.raises(CheckpointError, match="lines are missing"):
        result(run)


@pytest.mark.parametrize("cluster", ["labels", "none"])
def test_other_pseudo_labels(drawn_store, tmp_path, cluster):
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, cluster=cluster, epochs=1))
    train(run)
    (line,) = run.records("epoch")
    if cluster == "labels":
        assert line["false_positive_rate"] == 0
        assert line["false_negative_rate"] == 0
    else:
        assert line["false_positive_rate"] is None
        assert line["false_negative_rate"] > 0
    assert not any(c["in_use"] for c in run.records("clustering"))
    stored = load_checkpoint(run.checkpoint)["state"]["clusters"]
    assert len(set(stored.values())) == (3 if cluster == "labels" else 18)


def test_every_step_draws_its_own_negatives(drawn_store, tmp_path, monkeypatch):
    seeds, real = [], method.batch_loss

    def noting(*args, generator, **options):
        seeds.append(generator.initial_seed())
        return real(*args, generator=generator, **options)

    monkeypatch.setattr(method, "batch_loss", noting)
    train(new_run(tmp_path / "run", drawn_store, TRIPLET))
    assert len(seeds) == len(set(seeds)) == 4


def test_clusterings_come_when_due(drawn_store, tmp_path):
    settings = replace(INFONCE, epochs=5, cluster_every=2, warmup_epochs=1, flow_probability=0.0)
    run = new_run(tmp_path / "run", drawn_store, settings)
    train(run, keep=True)
    epochs = [line["epoch"] for line in run.records("clustering")]
    # The first because there are no clusters yet; the last for the record of the end.
    assert epochs == [0, 1, 3, 5]
    assert [line["in_use"] for line in run.records("clustering")] == [False, True, True, True]
    kept = sorted(path.name for path in run.checkpoint.parent.iterdir())
    assert kept == ["epoch00000", "epoch00001", "epoch00003", "epoch00005", "latest"]
    for epoch in epochs:
        content = load_checkpoint(run.checkpoint.with_name(f"epoch{epoch:05d}"))
        assert content["progress"]["epoch"] == epoch
    with h5py.File(run.path / "clusters.h5") as file:
        assert sorted(file) == [f"epoch{epoch:05d}" for epoch in epochs] + ["video"]


def changed_store(monkeypatch: pytest.MonkeyPatch, change: Callable[[list], list]) -> None:
    real = ClipStore.entries
    monkeypatch.setattr(ClipStore, "entries", lambda self: change(real(self)))


def test_the_training_videos_are_those_of_the_split(store, monkeypatch):
    groups = {}
    for split in (1, 2, 3):
        entries = training_entries(store, replace(INFONCE, split=split))
        assert all(entry.split(split) == "train" for entry in entries)
        groups[split] = {entry.group for entry in entries}
    assert groups[1] != groups[2]
    changed_store(monkeypatch, lambda es: [*es[:-1], replace(es[-1], flow=None)])
    with pytest.raises(StoreError, match=r"1 of 18 training videos have no flow.*prep flow"):
        training_entries(store, INFONCE)
    assert training_entries(store, replace(INFONCE, flow_probability=0.0))


def test_an_unlabelled_store_trains(drawn_store, tmp_path, monkeypatch):
    changed_store(monkeypatch, lambda es: [replace(e, label=None) for e in es])
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, epochs=2))
    train(run)
    found = result(run)
    assert (found["nmi"], found["ami"], found["recall"]) == (None, None, None)
    for line in run.records("epoch"):
        assert line["false_positive_rate"] is None
        assert line["false_negative_rate"] is None


def interrupted(*args: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_is_locked_while_it_trains(drawn_store, tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, epochs=1))
    with training(run, compute=ComputeOptions(CPU)) as (_, loop):
        with pytest.raises(CheckpointError, match="is being trained by another process"):
            train(run)
        with monkeypatch.context() as patch:
            patch.setattr(method, "batch_loss", interrupted)
            with pytest.raises(KeyboardInterrupt):
                loop()
    # A training that has failed holds it no more, nor one that cannot begin.
    content = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(b"garbage")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            train(run)
    run.checkpoint.write_bytes(content)
    train(run)
    assert is_done(run)


def test_what_a_killed_process_left_half_written_is_removed(drawn_store, tmp_path):
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, epochs=1))
    run.embeddings.mkdir()
    left = (
        "checkpoints/.latest.0a1b2c3d",
        "checkpoints/.epoch00000.0a1b2c3d",
        ".clusters.h5.0a1b2c3d",
        ".metrics.jsonl.0a1b2c3d",
        "embeddings/.ucf101.aaaa-e00000.bbbb-1clips-4x2-16px-train.h5.0a1b2c3d",
    )
    # Another process may be writing the last one: an evaluation needs no lock.
    kept = (".mine", "checkpoints/mine", "embeddings/.ucf101-10clips.h5.0a1b2c3d")
    for name in (*left, *kept):
        (run.path / name).touch()
    with training(run, compute=ComputeOptions(CPU)):
        pass
    assert not any((run.path / name).exists() for name in left)
    assert all((run.path / name).exists() for name in kept)


def test_means_are_over_samples_and_rates_over_what_was_drawn():
    """Of 12 samples, 4 positives are known to be of other videos, and one of these is false."""
    truth = {"a": 1, "b": 1, "c": 2}
    pairs = [("a", "b"), ("b", "a"), ("a", "c"), ("b", "a")]
    pairs += [("a", "a"), ("a", "x"), ("x", "a")] + [("x", "x")] * 5
    drawn = [VideoTriplet(a, 0, p, 0, False, False, seed=0) for a, p in pairs]
    sums = {"loss": 6.0, "skipped": 2.0, "negatives": 0.0, "false_negatives": 0.0}
    record = SLIC.figures(SimpleNamespace(truth=truth), [drawn[:5], drawn[5:]], sums)
    assert record == {
        "loss": 0.5,
        "skipped": 2,
        "false_positive_rate": 0.25,
        "false_negative_rate": None,
        "samples": 12,
    }
    more = {**sums, "negatives": 8.0, "false_negatives": 2.0}
    unknown = SLIC.figures(SimpleNamespace(truth={}), [drawn], more)
    assert (unknown["false_positive_rate"], unknown["false_negative_rate"]) == (None, 0.25)


def test_frames_of_two_kinds_are_not_trained_on(drawn_store, tmp_path):
    """As `prep frames --overwrite` leaves them, where it is stopped midway."""
    shutil.copytree(drawn_store, tmp_path / "own.zarr")
    own = ClipStore(tmp_path / "own.zarr", writable=True)
    entry = training_entries(own, make_settings("cpu-small", options={}))[4]
    own.index.put(replace(entry, settings="of before"))
    with pytest.raises(StoreError, match=r"1 of 18 training videos have frames of other"):
        training_entries(own, make_settings("cpu-small", options={}))
