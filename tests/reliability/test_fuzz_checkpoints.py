"""Checkpoints and weights as strangers or failing disks make them: nothing of them is executed."""

import copy
import functools
import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import fuzz, mutated, outcome, soak

from slic.config import make_settings
from slic.encoders.checkpoints import load_checkpoint, load_encoder
from slic.encoders.encoder import new_encoder, weights_digest
from slic.encoders.weights import read_weights
from slic.engine.checkpoint import Progress, restore, save_checkpoint
from slic.engine.optimise import make_optimiser
from slic.engine.task import Task
from slic.errors import CheckpointError
from slic.eval.classifier import Classifier
from slic.eval.classifier import make_optimiser as classifier_optimiser
from slic.eval.finetuning import Finetuning
from slic.eval.recipe import Recipe
from slic.train.methods.slic import SLIC

SETTINGS = make_settings("cpu-small")
VIDEOS = ["a", "b"]
CLASSES = ["Hop", "Run"]
PROGRESS = Progress(epoch=3, step=1, total_steps=9, sums={"loss": 0.5})
LABELS = {"clusters": {"a": 0, "b": 1}, "clustered_at": 2}
TUNED = Progress(epoch=1, step=1, total_steps=4, sums={"loss": 0.5})
STATE = {
    "history": [{"epoch": 1, "lr": 0.1, "loss": 0.5, "validation_top1": 0.5}],
    "best_epoch": 1,
    "best": None,
    "finished": False,
}
TENSORS: list[Any] = [
    torch.full((3,), float("nan")),
    torch.full((16, 3, 3, 7, 7), float("inf")),
    torch.zeros(3, dtype=torch.complex64),
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(3, device="meta"),
    torch.eye(3).to_sparse(),
    torch.zeros(1).expand(10**6, 10**6),
    torch.zeros(3, dtype=torch.int64),
    torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, requires_grad=True),
]
PLAIN: list[Any] = [None, True, -1, 0, 10**30, 0.5, float("nan"), "x", "a\nb", [], {}, [1]]
PLAIN += [{"a": 1}, {1: 2}, {"x": float("inf")}, (1, 2), {"a": -1, "b": 0}, {"a": 0}]


def stepped(network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """One step of made-up gradients, so that the optimiser has a state."""
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, 0.25)
    optimiser.step()


class Method(SLIC):
    """SLIC without a store."""

    def __init__(self, seed: int) -> None:
        self.encoder = self.network = new_encoder("small", seed=seed)
        self.optimiser = make_optimiser(self.encoder, SETTINGS)
        self.settings, self.epochs = SETTINGS, SETTINGS.epochs
        self.lengths = dict.fromkeys(VIDEOS, 20)


@functools.cache
def trained() -> Method:
    return Method(seed=0)


class Tuning(Finetuning):
    """The training of a linear layer, without a store."""

    def __init__(self) -> None:
        encoder = new_encoder("small", seed=0)
        classifier = Classifier(encoder, len(CLASSES), frozen=True, precision="fp32", seed=0)
        self.encoder, self.network = classifier.backbone, classifier.trained
        self.optimiser = classifier_optimiser(classifier)
        self.mode, self.classes, self.recipe = "linear-augmented", CLASSES, Recipe(epochs=5)
        self.epochs = self.recipe.epochs
        self.history, self.best_epoch, self.best, self.finished = [], 0, None, False


@functools.cache
def tuned() -> Tuning:
    return Tuning()


def make(folder: Path) -> None:
    made: list[tuple[str, Task, dict[str, Any], Progress]] = [
        ("latest", Method(seed=1), LABELS, PROGRESS),
        ("state", Tuning(), copy.deepcopy(STATE), TUNED),
    ]
    for name, task, state, progress in made:
        stepped(task.network, task.optimiser)
        task.load_state(state, progress.epoch)
        save_checkpoint(folder / name, task, progress)


def digest(task: Task) -> str:
    """Of all that `restore` may change."""
    kept = {
        f"{number}.{name}": value
        for number, of in task.optimiser.state_dict()["state"].items()
        for name, value in of.items()
    }
    return weights_digest({**task.network.state_dict(), **kept})


def restored_to(task: Task, path: Path) -> str:
    """Restore a task; refused, it has changed nothing."""
    before, state = digest(task), task.state()
    said = outcome(lambda: restore(path, task))
    if said == "refused":
        assert digest(task) == before
        assert task.state() == state
    return said


def restored(path: Path) -> str:
    """Restore a training."""
    return restored_to(trained(), path)


def continued(path: Path) -> str:
    """Restore a classifier's training."""
    return restored_to(tuned(), path)


def bytes_case(folder: Path, rng: random.Random) -> str:
    """Damage: refused, or without effect."""
    name = rng.choice(["latest", "state", "state"])
    path = folder / f"own-{name}"
    path.write_bytes(mutated((folder / name).read_bytes(), rng))
    read = restored if name == "latest" else continued
    said = read(path)
    if said == "accepted":
        task = trained() if name == "latest" else tuned()
        found = digest(task)
        assert read(folder / name) == "accepted"
        assert digest(task) == found, "another content was read"
    elif name == "latest":
        outcome(lambda: load_encoder(path))
        outcome(lambda: read_weights(path))
    return said


def content_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def put_somewhere(value: Any, rng: random.Random) -> Any:
    """A checkpoint's content with one part of it replaced, left out or added."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        if isinstance(value, torch.Tensor) and rng.random() < 0.4:
            odd = [torch.full_like(value, float("nan")) if value.is_floating_point() else None]
            odd += [-value, value.to(torch.float64), value[None], value.to(torch.complex64)]
            return rng.choice(odd)
        return rng.choice(TENSORS + PLAIN)
    changed = value.copy()
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    if rng.random() < 0.1:
        del changed[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        changed[rng.choice([3, "x", "a\nb"])] = rng.choice(TENSORS + PLAIN)
    else:
        changed[key] = put_somewhere(value[key], rng)
    return changed


def content_case(folder: Path, rng: random.Random) -> str:
    name = rng.choice(["latest", "state", "state"])
    path = folder / f"odd-{name}"
    torch.save(put_somewhere(content_of(folder / name), rng), path)
    if name == "state":
        return continued(path)
    said = restored(path)
    outcome(lambda: load_encoder(path))
    outcome(lambda: read_weights(path))
    return said


def archive_case(folder: Path, rng: random.Random) -> str:
    """The pickle inside changed, and the archive's checksums right again; or no archive at all."""
    path = folder / "archive"
    if rng.random() < 0.3:
        file = io.BytesIO()
        small = {"state_dict": {"x": torch.zeros(3)}, "format": 1}
        torch.save(small, file, _use_new_zipfile_serialization=False)
        path.write_bytes(mutated(file.getvalue(), rng))
    else:
        with zipfile.ZipFile(folder / "state") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("data.pkl") or rng.random() < 0.1:
                    data = mutated(data, rng)
                new.writestr(name, data)
    outcome(lambda: read_weights(path))
    outcome(lambda: load_encoder(path))
    return continued(path)


CASES = {"bytes": bytes_case, "content": content_case, "archive": archive_case}
test_mutated_checkpoints = fuzz(make, bytes_case, examples=40)
test_checkpoints_of_other_content = fuzz(make, content_case, examples=60)
test_mutated_archives = fuzz(make, archive_case, examples=120)


def soak_fuzz_checkpoints(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes, an equal share each."""
    share = minutes / len(CASES)
    return {name: soak(make, case, seed=seed, minutes=share) for name, case in CASES.items()}


# --- what was found, and what a stranger may try ---------------------------------------------


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
    "exec": lambda: Reduced(exec, ("import os; os.mkdir('canary')",)),
    "getattr": lambda: Reduced(getattr, (Reduced(__import__, ("os",)), "mkdir")),
    "partial": lambda: Reduced(functools.partial, (os.mkdir, "canary")),
    "torch.load": lambda: Reduced(torch.load, ("inner",)),
    "nested": lambda: {"a": [Reduced(Reduced, (os.mkdir, ("canary",)))]},
    "state": Stated,
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_nothing_is_executed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {**content_of(folder / "latest"), "extra": ATTACKS[attack]()}
    if form == "pickle":
        Path("x").write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, "x", _use_new_zipfile_serialization=form == "archive")
    assert restored(Path("x")) == continued(Path("x")) == "refused"
    for read in (load_checkpoint, load_encoder, read_weights):
        assert outcome(lambda read=read: read("x")) == "refused"  # type: ignore[misc]
    assert not Path("canary").exists()


def test_any_flipped_bit_of_the_weights_is_seen(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "latest").read_bytes()
    weight = content_of(folder / "latest")["model"]["stem.0.weight"]
    begin = whole.index(weight.numpy().tobytes())
    rng = random.Random(0)
    for _ in range(25):
        broken = bytearray(whole)
        broken[begin + rng.randrange(weight.nbytes)] ^= 1 << rng.randrange(8)
        (tmp_path / "x").write_bytes(broken)
        with pytest.raises(CheckpointError, match="checksums fail"):
            load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize(
    "part",
    [
        {"epoch": -1},
        {"epoch": 10**6},
        {"step": 10},
        {"total_steps": 1.0},
        {"total_steps": 2**70},
        {"lines": True},
        {"sums": {"loss": "x"}},
        {"sums": [1]},
        {"more": 1},
    ],
)
def test_progress_that_is_none_of_the_run(
    folder: Path, tmp_path: Path, part: dict[str, Any]
) -> None:
    content = content_of(folder / "latest")
    content["progress"] = {**content["progress"], **part}
    torch.save(content, tmp_path / "x")
    assert restored(tmp_path / "x") == "refused"


@pytest.mark.parametrize(
    "part",
    [
        {"clusters": {"a": 0}},
        {"clusters": {"a": 0, "b": 1, "c": 2}},
        {"clusters": {"a": 0, "b": -1}},
        {"clusters": {"a": 0, "b": 2**70}},
        {"clusters": [0, 1]},
        {"clustered_at": -2},
        {"clustered_at": 10**6},
        {"clustered_at": True},
        {"more": 1},
    ],
)
@pytest.mark.parametrize("first_version", [False, True])
def test_pseudo_labels_that_are_none_of_the_run(
    folder: Path, tmp_path: Path, part: dict[str, Any], first_version: bool
) -> None:
    content = content_of(folder / "latest")
    if first_version:  # which had them in its progress
        content["progress"] = {**content["progress"], **content.pop("state")}
        torch.save(content, tmp_path / "x")
        assert restored(tmp_path / "x") == "accepted"
    where = "progress" if first_version else "state"
    content[where] = {**content[where], **part}
    torch.save(content, tmp_path / "x")
    assert restored(tmp_path / "x") == "refused"


def test_an_optimisers_state_of_other_weights(folder: Path, tmp_path: Path) -> None:
    content = content_of(folder / "latest")
    kept = content["optimiser"]["state"]
    nan = {**kept[0], "exp_avg": torch.full_like(kept[0]["exp_avg"], float("nan"))}
    for state in (
        {**kept, 0: nan},
        {**kept, 0: kept[1]},
        {**kept, 999: kept[0]},
    ):
        changed = {**content["optimiser"], "state": state}
        torch.save({**content, "optimiser": changed}, tmp_path / "x")
        assert restored(tmp_path / "x") == "refused"


def test_rates_and_decays_are_the_settings_and_no_files(folder: Path, tmp_path: Path) -> None:
    content = content_of(folder / "latest")
    content["optimiser"]["param_groups"][0] |= {"weight_decay": 9.0, "maximize": True, "eps": "x"}
    torch.save(content, tmp_path / "x")
    assert restored(tmp_path / "x") == "accepted"
    group = trained().optimiser.param_groups[0]
    assert (group["weight_decay"], group["maximize"]) == (SETTINGS.weight_decay, False)


def test_a_value_that_unfolds_to_billions_is_not_shown(folder: Path, tmp_path: Path) -> None:
    bomb: list[Any] = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    content = content_of(folder / "latest")
    settings = {**SETTINGS.as_dict(), "epochs": bomb}
    for part in ({"format": bomb}, {"encoder": bomb}, {"settings": settings}, {"mean": bomb}):
        torch.save({**content, **part}, tmp_path / "x")
        assert restored(tmp_path / "x") == "refused"
        outcome(lambda: load_encoder(tmp_path / "x"))
        outcome(lambda: read_weights(tmp_path / "x"))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless", "."):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
