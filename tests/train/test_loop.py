"""Interrupted runs end as uninterrupted ones do: bit for bit, on CPU at one thread."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from slic.cache import ClipStore, EmbeddingCache
from slic.config import Settings, make_settings
from slic.encoders import load_checkpoint, weights_digest
from slic.errors import CheckpointError, StoreError
from slic.runs import Run, create_run, open_run
from slic.train import loop
from slic.train.loop import Training, epoch_record, is_done, result, training_entries
from slic.train.recluster import is_query
from slic.train.sampling import plan_epoch

CPU = torch.device("cpu")
# 18 training videos: 2 steps an epoch. FINCH clusters from epoch 1 on, flow in half of the views.
INFONCE = make_settings(
    "cpu-small",
    options={
        "frames": 4,
        "size": 16,
        "epochs": 2,
        "batch_size": 9,
        "cluster_every": 1,
        "warmup_epochs": 1,
    },
)
TRIPLET = replace(
    INFONCE, objective="triplet", optimiser="sgd", lr=0.1, warmup_epochs=0, schedule="constant"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bit from those of another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_run(folder: Path, store: Path, settings: Settings) -> Run:
    digest = ClipStore(store).digest()
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def train(run: Run, **options: Any) -> None:
    Training(run, device=CPU, workers=0, **options)()


def outcome(run: Run) -> dict[str, Any]:
    """All that a run has come to, without what it took."""
    content = load_checkpoint(run.checkpoint)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    with h5py.File(run.path / "clusters.h5") as file:
        clusters = {"video": file["video"].asstr()[:].tolist()}
        clusters |= {key: file[key][:].tolist() for key in file if key != "video"}
    moments = content["optimiser"]["state"]
    return {
        "weights": weights_digest(content["model"]),
        "optimiser": weights_digest(
            {f"{i}.{k}": torch.as_tensor(v) for i, s in moments.items() for k, v in s.items()}
        ),
        "progress": content["progress"],
        "lines": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "clusters": clusters,
        "embeddings": [path.name for path in run.embeddings.iterdir()],
        "files": sorted(path.name for path in run.path.iterdir()),
    }


@pytest.fixture(scope="module")
def whole(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each objective, trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    runs = {}
    for name, settings in (("infonce", INFONCE), ("triplet", TRIPLET)):
        runs[name] = new_run(folder / name, drawn_store, settings)
        train(runs[name])
    return runs


class Interrupted(Exception):
    """Stands for a crash."""


@contextmanager
def failing(target: str, *, call: int, after: bool) -> Iterator[None]:
    """Within, `target` raises at its `call`-th call, before or after doing its work."""
    calls = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        module, name = target.rsplit(":", 1)
        owner: Any = __import__(module, fromlist=["_"])
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        real: Callable[..., Any] = getattr(owner, last)

        def wrapper(*args: Any, **options: Any) -> Any:
            now = next(calls) == call
            if now and not after:
                raise Interrupted
            value = real(*args, **options)
            if now:
                raise Interrupted
            return value

        patch.setattr(owner, last, wrapper)
        yield


SAVE = "slic.train.loop:save_checkpoint"
POINTS = [
    ("infonce", SAVE, 2, False, False),
    ("triplet", SAVE, 1, True, False),
    ("infonce", SAVE, 2, False, True),
    ("triplet", SAVE, 2, False, True),
    ("infonce", SAVE, 1, True, True),
    ("triplet", "slic.train.loop:forward_loss", 2, True, True),
    ("infonce", "slic.train.loop:learning_rate", 2, False, True),
    ("infonce", "slic.train.loop:cluster_videos", 2, True, False),
    ("triplet", "slic.train.recluster:record_clusters", 2, True, False),
    ("infonce", "slic.train.recluster:write_cache", 2, True, True),
    ("infonce", "slic.train.record:Recorder.write", 2, True, False),
    ("triplet", "slic.train.record:Recorder.write", 2, False, True),
]


@pytest.mark.parametrize(("objective", "target", "call", "after", "often"), POINTS)
def test_a_run_interrupted_again_and_again_ends_the_same(
    whole, drawn_store, tmp_path, monkeypatch, objective, target, call, after, often
):
    """Each attempt dies at the same kind of point, further on; the last one is let through.

    `often` saves after every step, so that attempts begin within epochs.
    """
    if often:
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    settings = {"infonce": INFONCE, "triplet": TRIPLET}[objective]
    run = new_run(tmp_path / "run", drawn_store, settings)
    attempts, begun = 0, set()
    # An attempt that dies where the one before did would go on for ever.
    while attempts < 3 and not is_done(run):
        attempts += 1
        training = Training(run, device=CPU, workers=0)
        begun.add((training.state.progress.epoch, training.state.progress.step))
        with failing(target, call=call, after=after):
            try:
                training()
            except Interrupted:
                continue
            break
    train(run)
    assert attempts > 1
    if often and target == SAVE:
        assert any(step for _, step in begun)
    expected = outcome(whole[objective])
    assert outcome(run) == expected
    assert expected["files"] == [
        "checkpoints",
        "clusters.h5",
        "config.toml",
        "embeddings",
        "lock",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_the_same_seed_gives_the_same_run_and_another_another(whole, drawn_store, tmp_path):
    torch.manual_seed(123)
    np.random.seed(123)
    again = new_run(tmp_path / "again", drawn_store, INFONCE)
    train(again)
    other = new_run(tmp_path / "other", drawn_store, replace(INFONCE, seed=1))
    train(other)
    first = outcome(whole["infonce"])
    assert outcome(again) == first
    assert outcome(other)["weights"] != first["weights"]
    assert outcome(other)["lines"] != first["lines"]


@pytest.mark.parametrize("objective", ["infonce", "triplet"])
def test_metrics_are_complete(whole, objective):
    run = whole[objective]
    lines = outcome(run)["lines"]
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


def test_false_positives_are_those_of_the_plan(whole):
    """In the warm-up no positive is of another video; afterwards, recounted from clusters.h5."""
    run = whole["infonce"]
    first, second = run.records("epoch")
    assert first["false_positive_rate"] is None
    entries = training_entries(ClipStore(run.store), run.settings)
    label = {entry.id: entry.label for entry in entries}
    with h5py.File(run.path / "clusters.h5") as file:
        ids = file["video"].asstr()[:].tolist()
        clusters = dict(zip(ids, file["epoch00001"][:].tolist(), strict=True))
    plan = plan_epoch(
        {entry.id: entry.frames for entry in entries}, clusters, settings=run.settings, epoch=1
    )
    drawn = [s for batch in plan for s in batch if s.positive != s.anchor]
    false = sum(label[s.anchor] != label[s.positive] for s in drawn)
    assert second["false_positive_rate"] == pytest.approx(false / len(drawn))


def test_the_last_recall_is_that_of_the_cache_that_is_kept(whole):
    run = whole["infonce"]
    (path,) = run.embeddings.iterdir()
    cache = EmbeddingCache(path)
    assert cache.attributes["checkpoint"].startswith("e00002.")
    digest = weights_digest(load_checkpoint(run.checkpoint)["model"])
    assert cache.attributes["checkpoint"].endswith(digest)
    entries = {e.id: e for e in training_entries(ClipStore(run.store), run.settings)}
    assert set(cache.ids) == set(entries)
    query = np.array([is_query(entries[video]) for video in cache.ids])
    unit = cache.backbone / np.linalg.norm(cache.backbone, axis=1, keepdims=True)
    order = np.argsort(-(unit[query] @ unit[~query].T), axis=1)
    hit = cache.labels[~query][order] == cache.labels[query][:, None]
    recorded = run.records("clustering")[-1]["recall"]
    assert recorded == pytest.approx({"1": hit[:, :1].mean(), "5": hit[:, :5].any(1).mean()})


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
    with pytest.raises(CheckpointError, match="lines are lost"):
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
    stored = load_checkpoint(run.checkpoint)["progress"]["clusters"]
    assert len(set(stored.values())) == (3 if cluster == "labels" else 18)


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


def test_a_batch_larger_than_the_data_set_is_the_data_set(drawn_store, tmp_path):
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, batch_size=500, epochs=1))
    train(run)
    assert result(run)["steps"] == 1
    assert run.records("epoch")[0]["samples"] == 18


def changed_store(monkeypatch: pytest.MonkeyPatch, change: Callable[[list], list]) -> None:
    real = ClipStore.entries
    monkeypatch.setattr(ClipStore, "entries", lambda self: change(real(self)))


def refusal(store: ClipStore, settings: Settings = INFONCE) -> str:
    with pytest.raises(StoreError) as caught:
        training_entries(store, settings)
    message = str(caught.value)
    assert message.startswith(f"{store.path}: ")
    assert "\n" not in message
    return message


def test_the_training_videos_are_those_of_the_split(store):
    groups = {}
    for split in (1, 2, 3):
        entries = training_entries(store, replace(INFONCE, split=split))
        assert all(entry.split(split) == "train" for entry in entries)
        groups[split] = {entry.group for entry in entries}
    assert groups[1] != groups[2]
    assert len(training_entries(store, INFONCE)) == 18


def test_what_cannot_be_trained_on_is_one_line(store, monkeypatch):
    with monkeypatch.context() as patch:
        changed_store(patch, lambda es: [replace(e, split1="test") for e in es[1:]] + es[:1])
        assert "triplet needs at least 2" in refusal(store)
    with monkeypatch.context() as patch:
        changed_store(patch, lambda es: [replace(e, split1=None) for e in es])
        assert "has no split 1" in refusal(store)
    with monkeypatch.context() as patch:
        changed_store(patch, lambda es: [*es[:-1], replace(es[-1], flow=None)])
        message = refusal(store)
        assert "1 of 18 training videos have no flow" in message
        assert "slic prep flow" in message
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


def test_a_run_is_locked_while_it_trains(drawn_store, tmp_path):
    run = new_run(tmp_path / "run", drawn_store, replace(INFONCE, epochs=1))
    training = Training(run, device=CPU, workers=0)
    with pytest.raises(CheckpointError, match="is being trained by another process"):
        Training(run, device=CPU, workers=0)
    with failing(SAVE, call=2, after=False), pytest.raises(Interrupted):
        training()
    # A training that has failed holds it no more, nor one that cannot begin.
    content = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(b"garbage")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            Training(run, device=CPU, workers=0)
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
    Training(run, device=CPU, workers=0)
    assert not any((run.path / name).exists() for name in left)
    assert all((run.path / name).exists() for name in kept)


def test_means_are_over_samples_and_rates_over_what_was_drawn():
    sums = {"loss": 6.0, "skipped": 2.0, "false": 1, "drawn": 4, "negatives": 0.0}
    record = epoch_record({**sums, "false_negatives": 0.0}, samples=12)
    assert record == {
        "loss": 0.5,
        "skipped": 2,
        "false_positive_rate": 0.25,
        "false_negative_rate": None,
        "samples": 12,
    }


def started(store: Path, config: Path, folder: Path, *, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "slic.cli", "train", str(store), "--run", "killed"]
    command += ["--preset", "cpu-small", "--config", str(config), "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--workers", str(workers), "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def waited(condition: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_killed_process_continues_and_leaves_no_child(drawn_store, tmp_path):
    """SIGKILL while a worker reads, then on without one; the config is that of a finished run."""
    settings = replace(INFONCE, epochs=4, cluster_every=3)
    whole = new_run(tmp_path / "whole", drawn_store, settings)
    train(whole)
    metrics = tmp_path / "runs" / "killed" / "metrics.jsonl"
    config = whole.path / "config.toml"
    with started(drawn_store, config, tmp_path, workers=1) as process:
        try:
            assert waited(lambda: metrics.exists() and metrics.read_text().count("\n") >= 2)
        finally:
            process.kill()
    assert '"done"' not in metrics.read_text()
    assert waited(lambda: group_is_gone(process.pid))
    with started(drawn_store, config, tmp_path, workers=0) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "continuing after epoch" in err
    assert json.loads(out)["steps"] == 8
    assert outcome(open_run(metrics.parent)) == outcome(whole)
