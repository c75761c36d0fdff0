"""Values that are not finite are noticed and named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.encoders.checkpoints import load_checkpoint
from slic.engine import saving
from slic.engine.divergence import FAILED_STEP, finite_weights
from slic.engine.epoch import Epoch
from slic.engine.forward import ComputeOptions
from slic.errors import WorkError
from slic.runs import Run, create_run
from slic.train.methods import slic as method
from slic.train.sampling import plan_epoch
from slic.train.training import training

CPU = torch.device("cpu")
SETTINGS = make_settings(
    "cpu-small",
    options={"frames": 4, "size": 16, "epochs": 3, "batch_size": 6, "cluster_every": 1}
    | {"warmup_epochs": 1},
)


def new_run(folder: Path, store: Path, settings: Settings) -> Run:
    digest = ClipStore(store).digest(flow=settings.flow_probability > 0)
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def train(run: Run) -> None:
    with training(run, compute=ComputeOptions(CPU), say=str) as (_, loop):
        loop()


def poisoned(monkeypatch: pytest.MonkeyPatch, *, step: int, with_loss: bool) -> None:
    """At the step of this number in all, the loss is infinite, or only its gradients are."""
    real, calls = method.batch_loss, iter(range(1, 1000))

    def poison(*args, **options):
        loss, sums = real(*args, **options)
        if next(calls) != step:
            return loss, sums
        loss = loss * float("inf")
        return loss, {**sums, "loss": loss.detach().double()} if with_loss else sums

    monkeypatch.setattr(method, "batch_loss", poison)


@pytest.mark.parametrize(("step", "epoch", "within"), [(1, 0, 0), (5, 1, 1), (9, 2, 2)])
def test_a_loss_that_is_not_finite_names_step_and_clips(
    drawn_store, tmp_path, monkeypatch, step, epoch, within
):
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    poisoned(monkeypatch, step=step, with_loss=True)
    with (
        training(run, compute=ComputeOptions(CPU), say=str) as (trained, loop),
        pytest.raises(WorkError, match=rf"at step {step} in epoch {epoch}") as error,
    ):
        loop()
    about = json.loads((run.path / FAILED_STEP).read_text())
    assert (about["what"], about["step"], about["epoch"]) == ("loss", step, epoch)
    # The clips are those that a naive plan of the epoch gives.
    content = load_checkpoint(run.checkpoint)
    assert content["progress"]["total_steps"] == 3 * epoch
    plan = plan_epoch(trained.lengths, content["state"]["clusters"], settings=SETTINGS, epoch=epoch)
    anchors = [sample.anchor for sample in plan[within]]
    assert [sample["anchor"] for sample in about["samples"]] == anchors
    assert repr(anchors[0]) in str(error.value)
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_after_it_the_run_goes_on_from_its_last_good_checkpoint(drawn_store, tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    with monkeypatch.context() as patch:
        poisoned(patch, step=5, with_loss=True)
        with pytest.raises(WorkError):
            train(run)
    train(run)
    steps = [line["step"] for line in run.records("epoch")]
    assert steps == [3, 6, 9]


@pytest.mark.parametrize("every_step", [False, True])
def test_weights_that_are_not_finite_are_never_saved(
    drawn_store, tmp_path, monkeypatch, every_step
):
    """Step 3 is the last of its epoch: no later loss tells of it."""
    if every_step:
        monkeypatch.setattr(saving, "CHECKPOINT_EVERY_S", -1.0)
    run = new_run(tmp_path / "run", drawn_store, SETTINGS)
    poisoned(monkeypatch, step=3, with_loss=False)
    with pytest.raises(WorkError, match="weights are not finite at step 3 in epoch 0"):
        train(run)
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


@pytest.mark.parametrize("seed", [0, 1])
def test_the_watch_tells_the_first_bad_step_at_its_next_look(seed):
    rng = np.random.default_rng(seed)
    bad = set(rng.choice(70, size=3, replace=False).tolist())
    epoch = Epoch(0, [], {}, CPU)
    epoch._look_every = 32
    for step in range(70):
        value = torch.tensor(float("nan") if step in bad else 1.0)
        found = epoch.add(step, {"loss": value})
        first = min(bad)
        assert found == (first if step in (31, 63) and first <= step else None)
    assert epoch.bad_step() == first


def test_a_watch_of_finite_losses_finds_nothing():
    epoch = Epoch(0, [], {"loss": 1.0}, CPU)
    losses = [{"loss": torch.tensor(2.0)} for _ in range(3)]
    assert [epoch.add(step, loss) for step, loss in enumerate(losses)] == [None] * 3
    assert epoch.bad_step() is None
    assert epoch.sums == {"loss": 7.0}


def test_weights_and_running_statistics_must_be_finite():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert finite_weights(net)
    net[1].running_var[0] = float("inf")
    assert not finite_weights(net)
