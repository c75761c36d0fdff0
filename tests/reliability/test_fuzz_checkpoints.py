"""Damaged checkpoints and weights, and files that would run code: refused in one line."""

import functools
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import fuzz, mutated, outcome, soak

from slic.encoders.checkpoints import CHECKPOINT_FORMAT, load_checkpoint, load_encoder
from slic.encoders.encoder import new_encoder, weights_digest
from slic.encoders.tensor_files import save_tensors
from slic.encoders.weights import read_weights
from slic.errors import CheckpointError

PROGRESS = {"epoch": 3, "step": 1, "total_steps": 9, "sums": {"loss": 0.5}}


def make(folder: Path) -> None:
    """Write a checkpoint, and bare weights as other programs save them."""
    encoder = new_encoder("small", seed=1)
    state = encoder.state_dict()
    about = {"format": CHECKPOINT_FORMAT, "encoder": "small", "mean": [0.5] * 3, "std": [0.5] * 3}
    save_tensors(folder / "latest", {**about, "model": state, "progress": PROGRESS})
    torch.save({"state_dict": state}, folder / "weights.pt")
    small = {"state_dict": {"x": torch.zeros(3)}}
    torch.save(small, folder / "legacy.pt", _use_new_zipfile_serialization=False)


def content(path: Path) -> tuple[str, Any]:
    """Read all of a checkpoint."""
    found = load_checkpoint(path)
    load_encoder(path)
    return weights_digest(found.pop("model")), found


def case(folder: Path, rng: random.Random) -> str:
    name = rng.choice(["latest", "latest", "weights.pt", "legacy.pt"])
    path = folder / f"own-{name}"
    path.write_bytes(mutated((folder / name).read_bytes(), rng))
    if name != "latest":
        return outcome(lambda: read_weights(path))

    def read() -> None:
        assert content(path) == content(folder / name), "damage was read as something else"

    return outcome(read)


test_mutated_checkpoints = fuzz(make, case, examples=50)


def soak_fuzz_checkpoints(seed: int, minutes: float) -> dict[str, Any]:
    """Damage checkpoints until the time is over."""
    return soak(make, case, seed=seed, minutes=minutes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints")
    make(path)
    return path


class Reduced:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


class Stated:
    """Pickles as an object with a state to set."""

    def __reduce__(self) -> Any:
        return torch.nn.Linear, (1, 1), {"training": Reduced(os.mkdir, ("canary",))}


ATTACKS = {
    "os.system": lambda: Reduced(os.system, ("mkdir canary",)),
    "eval": lambda: Reduced(eval, ("__import__('os').mkdir('canary')",)),
    "getattr": lambda: Reduced(getattr, (Reduced(__import__, ("os",)), "mkdir")),
    "partial": lambda: Reduced(functools.partial, (os.mkdir, "canary")),
    "nested": lambda: {"a": [Reduced(Reduced, (os.mkdir, ("canary",)))]},
    "state": Stated,
    "array": lambda: np.array([Reduced(os.mkdir, ("canary",))], dtype=object),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_nothing_is_executed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {**torch.load(folder / "latest", weights_only=True), "extra": ATTACKS[attack]()}
    if form == "pickle":
        Path("x").write_bytes(pickle.dumps(found["extra"]))
    else:
        torch.save(found, "x", _use_new_zipfile_serialization=form == "archive")
    for read in (load_checkpoint, load_encoder, read_weights):
        assert outcome(lambda read=read: read("x")) == "refused"  # type: ignore[misc]
    assert not Path("canary").exists()


def test_any_flipped_bit_of_the_weights_is_an_error(folder: Path, tmp_path: Path) -> None:
    right = (folder / "latest").read_bytes()
    weight = load_checkpoint(folder / "latest")["model"]["stem.0.weight"]
    begin, rng = right.index(weight.numpy().tobytes()), random.Random(0)
    for _ in range(25):
        broken = bytearray(right)
        broken[begin + rng.randrange(weight.nbytes)] ^= 1 << rng.randrange(8)
        (tmp_path / "x").write_bytes(broken)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "x")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless", "."):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
