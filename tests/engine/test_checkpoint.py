from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slic.config import make_settings
from slic.encoders.checkpoints import load_checkpoint, load_encoder
from slic.encoders.encoder import new_encoder
from slic.engine.checkpoint import Progress, resume, save_checkpoint
from slic.errors import CheckpointError
from slic.train.methods.base import make_optimiser
from slic.train.methods.slic import SLIC

ADAM = make_settings("cpu-small")
SGD = make_settings("cpu-small", options={"optimiser": "sgd", "lr": 0.1})
PROGRESS = Progress(
    epoch=3,
    step=2,
    total_steps=11,
    lines=7,
    sums={"loss": 0.1 + 0.2, "skipped": 0.0},
)
STATE = {"clusters": {"b": 1, "a": 0}, "clustered_at": 2}
VIDEOS = ["a", "b"]


class Method(SLIC):
    """SLIC without a store."""

    def __init__(self, settings, seed: int = 0) -> None:
        encoder = new_encoder("small", seed=seed).to(memory_format=torch.channels_last_3d)
        self.encoder = self.network = encoder
        self.optimiser = make_optimiser(encoder, settings)
        self.settings, self.epochs = settings, settings.epochs
        self.lengths = dict.fromkeys(VIDEOS, 20)


def trained(settings) -> Method:
    method = Method(settings)
    train(method, 2)
    method.load_state(STATE, PROGRESS.epoch)
    return method


def train(method: Method, steps: int, *, seed: int = 0) -> None:
    encoder, optimiser = method.encoder, method.optimiser
    generator = torch.Generator().manual_seed(seed)
    encoder.train()
    for _ in range(steps):
        clips = torch.randn(4, 3, 4, 16, 16, generator=generator)
        loss = encoder(clips)[1].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, torch.Tensor):
        return torch.equal(mine, theirs)
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(same(mine[k], theirs[k]) for k in mine)
    if isinstance(mine, list):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    return mine == theirs


def same_training(mine: Method, theirs: Method) -> bool:
    return same(mine.encoder.state_dict(), theirs.encoder.state_dict()) and same(
        mine.optimiser.state_dict(), theirs.optimiser.state_dict()
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "latest"
    save_checkpoint(path, trained(ADAM), PROGRESS)
    return path


def changed(saved: Path, folder: Path, **values: Any) -> Path:
    content = {**load_checkpoint(saved), **values}
    path = folder / "latest"
    torch.save({k: v for k, v in content.items() if v is not None}, path)
    return path


@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
def test_a_restored_training_goes_on_exactly(settings, tmp_path):
    method = trained(settings)
    path = tmp_path / "latest"
    save_checkpoint(path, method, PROGRESS)
    other = Method(settings, seed=9)
    assert resume(path, other) == PROGRESS
    assert other.state() == method.state() == STATE
    assert same_training(method, other)
    train(method, 2, seed=1)
    train(other, 2, seed=1)
    assert same_training(method, other)


def test_a_checkpoint_holds_all_that_later_stages_need(saved):
    content = load_checkpoint(saved)
    assert content["settings"] == ADAM.as_dict()
    assert content["progress"] == vars(PROGRESS)
    assert content["state"] == STATE
    assert len(content["mean"]) == len(content["std"]) == 3
    assert any(key.startswith("head.") for key in content["model"])
    assert not load_encoder(saved).training


def test_saving_leaves_one_whole_file(saved, tmp_path, monkeypatch):
    assert [path.name for path in saved.parent.iterdir()] == ["latest"]
    path = tmp_path / "latest"
    path.write_bytes(saved.read_bytes())

    def fails(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, Method(ADAM), PROGRESS)
    assert [p.name for p in tmp_path.iterdir()] == ["latest"]
    assert path.read_bytes() == saved.read_bytes()


def refusal(path: Path, settings=ADAM) -> str:
    with pytest.raises(CheckpointError) as caught:
        resume(path, Method(settings))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_checkpoint_of_an_older_slic_lacks_a_setting_and_is_restored(saved, tmp_path):
    settings = {k: v for k, v in ADAM.as_dict().items() if k != "components"}
    path = changed(saved, tmp_path, settings=settings)
    assert resume(path, Method(ADAM)) == PROGRESS
    assert "other settings" in refusal(path, replace(ADAM, components="v"))


def first_version(saved: Path, folder: Path, **state: Any) -> Path:
    """A checkpoint of the first version: the pseudo-labels are part of its progress."""
    path = changed(saved, folder, progress={**vars(PROGRESS), **STATE, **state}, state=None)
    assert "state" not in load_checkpoint(path)
    return path


def test_a_checkpoint_of_the_first_version_is_restored(saved, tmp_path):
    now, then = Method(ADAM, seed=8), Method(ADAM, seed=9)
    assert resume(saved, now) == resume(first_version(saved, tmp_path), then) == PROGRESS
    assert now.state() == then.state() == STATE
    assert same_training(now, then)


@pytest.mark.parametrize(
    "state", [{"clusters": {"a": 0}}, {"clusters": 3}, {"clustered_at": 1e9}, {"clustered": 2}]
)
def test_a_checkpoint_of_the_first_version_of_other_pseudo_labels_is_refused(
    saved, tmp_path, state
):
    assert "cannot be continued from" in refusal(first_version(saved, tmp_path, **state))


def test_other_settings_are_refused(saved):
    assert "other settings" in refusal(saved, SGD)


def test_a_checkpoint_that_lacks_a_part_is_refused(saved, tmp_path):
    for part in ("optimiser", "progress"):
        path = changed(saved, tmp_path, **{part: None})
        assert "cannot be continued from" in refusal(path)
    assert "other settings" in refusal(changed(saved, tmp_path, settings=None))


def test_parts_that_do_not_fit_are_refused(saved, tmp_path):
    content = load_checkpoint(saved)
    headless = {k: v for k, v in content["model"].items() if not k.startswith("head.")}
    for parts in (
        {"model": headless},
        {"optimiser": {"state": {}, "param_groups": []}},
        {"optimiser": 3},
        {"progress": {"epochs": 3}},
        {"state": {}},
        {"state": 3},
        {"state": {"clusters": STATE["clusters"]}},
        {"state": {**STATE, "queue": [1]}},
    ):
        assert "cannot be continued from" in refusal(changed(saved, tmp_path, **parts))
    assert "not a state dict" in refusal(changed(saved, tmp_path, model=[]))


def test_a_cut_off_file_is_refused(saved, tmp_path):
    path = tmp_path / "latest"
    path.write_bytes(saved.read_bytes()[:5000])
    assert "not a checkpoint" in refusal(path)
