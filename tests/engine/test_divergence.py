"""Values that are not finite, and collapsed embeddings, are noticed and named."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.encoders.checkpoints import load_checkpoint
from slic.engine import loop
from slic.engine.divergence import (
    FAILED_STEP,
    LossWatch,
    check_embeddings,
    finite_weights,
    has_collapsed,
    mean_distance,
)
from slic.engine.forward import Means
from slic.engine.loop import Training
from slic.errors import WorkError
from slic.runs import Run, create_run
from slic.train.sampling import plan_epoch

CPU = torch.device("cpu")
SETTINGS = make_settings(
    "cpu-small",
    options={
        "frames": 4,
        "size": 16,
        "epochs": 3,
        "batch_size": 6,
        "cluster_every": 1,
        "warmup_epochs": 1,
    },
)


def new_run(folder: Path, store: Path, settings: Settings) -> Run:
    digest = ClipStore(store).digest(flow=settings.flow_probability > 0)
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def poisoned(monkeypatch: pytest.MonkeyPatch, *, step: int, with_loss: bool) -> None:
    """At the step of this number in all, the loss is infinite, or only its gradients are."""
    real, calls = loop.forward_loss, iter(range(1, 1000))

    def poison(*args, **options):
        loss, sums = real(*args, **options)
        if next(calls) != step:
            return loss, sums
        loss = loss * float("inf")
        return loss, {**sums, "loss": loss.detach().double()} if with_loss else sums

    monkeypatch.setattr(loop, "forward_loss", poison)


@pytest.mark.parametrize(("step", "epoch", "within"), [(1, 0, 0), (5, 1, 1), (9, 2, 2)])
def test_a_loss_that_is_not_finite_names_step_and_clips(
    drawn_store, tmp_path, monkeypatch, step, epoch, within
):
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    poisoned(monkeypatch, step=step, with_loss=True)
    training = Training(run, means=Means(CPU), say=str)
    with pytest.raises(WorkError, match=rf"loss of step {step}, in epoch {epoch}") as error:
        training()
    about = json.loads((run.path / FAILED_STEP).read_text())
    assert (about["what"], about["step"], about["epoch"]) == ("loss", step, epoch)
    # The clips are those that a naive plan of the epoch gives.
    content = load_checkpoint(run.checkpoint)
    assert content["progress"]["total_steps"] == 3 * epoch
    plan = plan_epoch(
        training.lengths, content["progress"]["clusters"], settings=SETTINGS, epoch=epoch
    )
    anchors = [sample.anchor for sample in plan[within]]
    assert [sample["anchor"] for sample in about["samples"]] == anchors
    assert repr(anchors[0]) in str(error.value)
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_after_it_the_run_goes_on_from_its_last_good_checkpoint(drawn_store, tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    with monkeypatch.context() as patch:
        poisoned(patch, step=5, with_loss=True)
        with pytest.raises(WorkError):
            Training(run, means=Means(CPU), say=str)()
    Training(run, means=Means(CPU), say=str)()
    steps = [line["step"] for line in run.records("epoch")]
    assert steps == [3, 6, 9]


@pytest.mark.parametrize("every_step", [False, True])
def test_weights_that_are_not_finite_are_never_saved(
    drawn_store, tmp_path, monkeypatch, every_step
):
    """Step 3 is the last of its epoch: no later loss tells of it."""
    if every_step:
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    poisoned(monkeypatch, step=3, with_loss=False)
    with pytest.raises(WorkError, match="weights of step 3, in epoch 0"):
        Training(run, means=Means(CPU), say=str)()
    content = load_checkpoint(run.checkpoint)
    assert content["progress"]["total_steps"] == (2 if every_step else 0)
    assert all(torch.isfinite(v).all() for v in content["model"].values())
    assert json.loads((run.path / FAILED_STEP).read_text())["step"] == 3


def test_a_rate_far_too_large_is_one_line_and_exit_code_1(work, slic):
    code, out, err = slic(
        *("train", "ucf101.zarr", "--run", "wild", "--preset", "cpu-small", "--device", "cpu"),
        *("--set", "lr=1e15", "--epochs", "2", "--batch-size", "6", "--workers", "0"),
    )
    assert code == 1
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert "is not finite" in last
    assert "failed-step.json" in last
    assert not list((work / "runs" / "wild").glob(".failed*"))


def test_a_run_stopped_between_two_steps_goes_on_at_the_next(drawn_store, tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    real, calls = loop.forward_loss, iter(range(1, 1000))

    def stop_in_the_middle(*args, **options):
        if next(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **options)

    monkeypatch.setattr(loop, "forward_loss", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        Training(run, means=Means(CPU), say=str)()
    progress = load_checkpoint(run.checkpoint)["progress"]
    assert (progress["epoch"], progress["step"], progress["total_steps"]) == (1, 2, 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_watch_tells_the_first_bad_step_at_its_next_look(seed):
    rng = np.random.default_rng(seed)
    bad = set(rng.choice(70, size=3, replace=False).tolist())
    watch = LossWatch(CPU)
    watch._every = 32
    for step in range(70):
        value = torch.tensor(float("nan") if step in bad else 1.0)
        found = watch.see(step, value)
        first = min(bad)
        assert found == (first if step in (31, 63) and first <= step else None)
    assert watch.first() == first


def test_a_watch_of_finite_losses_finds_nothing():
    watch = LossWatch(CPU)
    assert [watch.see(step, torch.tensor(1e38)) for step in range(3)] == [None] * 3
    assert watch.first() is None


def test_weights_and_running_statistics_must_be_finite():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert finite_weights(net)
    net[1].running_var[0] = float("inf")
    assert not finite_weights(net)


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
    assert has_collapsed(mean_distance(near))
    apart = np.random.default_rng(2).standard_normal((50, 128)).astype(np.float32)
    assert not has_collapsed(mean_distance(apart))


def test_embeddings_that_are_not_finite_name_their_videos():
    rows = np.ones((4, 3), dtype=np.float32)
    check_embeddings(["a", "b", "c", "d"], rows, where=Path("run"))
    rows[1, 2], rows[3, 0] = np.nan, np.inf
    with pytest.raises(WorkError, match=r"2 of 4 .*'b', 'd'"):
        check_embeddings(["a", "b", "c", "d"], rows, where=Path("run"))


def test_a_collapse_is_said_and_recorded(drawn_store, tmp_path):
    """A head whose last layer gives nothing but its bias maps all videos onto one point."""
    settings = replace(SETTINGS, epochs=1, lr=1e-12)
    run = new_run(tmp_path / "run", drawn_store, settings)
    said: list[str] = []
    training = Training(run, means=Means(CPU), say=said.append)
    last = [m for m in training.state.encoder.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(1.0)
    training()
    told = [line for line in said if "collapsed" in line]
    records = run.records("clustering")
    assert len(told) == len(records) == 2
    assert all(0 <= record["distance"] < 1e-6 for record in records)
    healthy: list[str] = []
    other = new_run(tmp_path / "other", drawn_store, settings)
    Training(other, means=Means(CPU), say=healthy.append)()
    assert not [line for line in healthy if "collapsed" in line]
    assert all(record["distance"] > 1e-3 for record in other.records("clustering"))
