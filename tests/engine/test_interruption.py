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

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.encoders.checkpoints import load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.engine import saving
from slic.engine.forward import ComputeOptions
from slic.runs import Run, create_run, open_run
from slic.train.outcome import is_done
from slic.train.training import training

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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bit from those of another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_run(folder: Path, store: Path, settings: Settings) -> Run:
    digest = ClipStore(store).digest(flow=settings.flow_probability > 0)
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def train(run: Run, **options: Any) -> None:
    with training(run, compute=ComputeOptions(CPU), **options) as (_, loop):
        loop()


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
        "state": content["state"],
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


SAVE = "slic.engine.saving:save_checkpoint"
POINTS = [
    ("infonce", SAVE, 2, False, False),
    ("triplet", SAVE, 1, True, False),
    ("infonce", SAVE, 2, False, True),
    ("triplet", SAVE, 2, False, True),
    ("infonce", SAVE, 1, True, True),
    ("triplet", "slic.train.methods.slic:batch_loss", 2, True, True),
    ("infonce", "slic.train.methods.base:learning_rate", 2, False, True),
    ("infonce", "slic.train.methods.slic:cluster_videos", 2, True, False),
    ("triplet", "slic.train.recluster:record_clusters", 2, True, False),
    ("infonce", "slic.train.recluster:write_cache", 2, True, True),
    ("infonce", "slic.engine.log:Recorder.write", 2, True, False),
    ("triplet", "slic.engine.log:Recorder.write", 2, False, True),
]


@pytest.mark.parametrize(("objective", "target", "call", "after", "often"), POINTS)
def test_a_run_interrupted_again_and_again_ends_the_same(
    whole, drawn_store, tmp_path, monkeypatch, objective, target, call, after, often
):
    """Each attempt dies at the same kind of point, further on; the last one is let through.

    `often` saves after every step, so that attempts begin within epochs.
    """
    if often:
        monkeypatch.setattr(saving, "CHECKPOINT_EVERY_S", -1.0)
    settings = {"infonce": INFONCE, "triplet": TRIPLET}[objective]
    run = new_run(tmp_path / "run", drawn_store, settings)
    attempts, begun = 0, set()
    # An attempt that dies where the one before did would go on for ever.
    while attempts < 3 and not is_done(run):
        attempts += 1
        with training(run, compute=ComputeOptions(CPU)) as (_, loop):
            begun.add((loop.progress.epoch, loop.progress.step))
            with failing(target, call=call, after=after):
                try:
                    loop()
                except Interrupted:
                    continue
                break
    train(run)
    assert attempts > 1
    if often and target == SAVE:
        assert any(step for _, step in begun)
    expected = outcome(whole[objective])
    assert outcome(run) == expected
    files = "checkpoints clusters.h5 config.toml embeddings lock metrics.jsonl tensorboard"
    assert expected["files"] == files.split()


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


@pytest.mark.slow
def test_a_killed_process_continues_and_leaves_no_child(drawn_store, tmp_path):
    """SIGKILL while a worker reads, then on without one; the config is that of a finished run."""
    settings = replace(INFONCE, epochs=5, cluster_every=3)
    whole = new_run(tmp_path / "whole", drawn_store, settings)
    train(whole)
    metrics = tmp_path / "runs" / "killed" / "metrics.jsonl"
    config = whole.path / "config.toml"
    with started(drawn_store, config, tmp_path, workers=1) as process:
        try:
            assert waited(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3)
        finally:
            process.kill()
    assert '"done"' not in metrics.read_text()
    assert waited(lambda: group_is_gone(process.pid))
    with started(drawn_store, config, tmp_path, workers=0) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "continuing after epoch" in err
    assert json.loads(out)["steps"] == 10
    assert outcome(open_run(metrics.parent)) == outcome(whole)
