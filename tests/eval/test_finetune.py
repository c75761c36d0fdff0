import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import make_settings
from slic.demo.drawn import draw_dataset
from slic.encoders.encoder import new_encoder
from slic.engine.loop import Loop
from slic.errors import CheckpointError, InputError, StoreError, WorkError
from slic.eval import finetune, finetuning
from slic.eval.classify import classify
from slic.eval.finetuning import Finetuning
from slic.eval.holdout import divide
from slic.eval.recipe import Mode, Recipe
from slic.prep.frames import prep_frames
from slic.runs import find_run

CPU = torch.device("cpu")
SETTINGS = make_settings("cpu-small", options={"frames": 4, "stride": 1, "size": 16})
SHORT = Recipe(epochs=3, batch_size=5, lr=0.01, dropout=0.5, clips=2, crops=1)
QUICK = {"epochs": 2, "batch_size": 9, "crops": 1}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bit from those of another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """3 actions x 6 groups x 2 clips: enough groups that one of each class validates."""
    root = tmp_path_factory.mktemp("scenes") / "scenes"
    draw_dataset(root, actions=3, groups=6, clips=2, frames=16, size=(48, 36))
    prep_frames(str(root), store=f"{root}.zarr", workers=1)
    return ClipStore(f"{root}.zarr")


class Tuned:
    """The training of a classifier whose checkpoint lies in a folder."""

    def __init__(self, task: Finetuning, checkpoint: Path) -> None:
        self.task, self.checkpoint = task, checkpoint
        self.loop = finetune.make_loop(task, checkpoint)

    def __call__(self) -> np.ndarray:
        if not self.task.finished:
            self.loop()
        return self.task.test()

    @property
    def progress(self) -> tuple[int, int]:
        return self.loop.progress.epoch, self.loop.progress.step


def new(
    store: ClipStore,
    folder: Path,
    *,
    mode: Mode = "finetune",
    recipe: Recipe = SHORT,
    settings: Any = SETTINGS,
) -> Tuned:
    division = divide(store.entries(), split=1, where=store.path)
    folder.mkdir(exist_ok=True)
    task = Finetuning(
        new_encoder("small", seed=0),
        ReaderPool(store, workers=0),
        mode=mode,
        settings=settings,
        recipe=recipe,
        division=division,
        device=CPU,
    )
    return Tuned(task, folder / "some.checkpoint")


def weights(tuned: Tuned) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tuned.task.classifier.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first | second)


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """3 classes x 8 groups of noise of different brightness, with the class's tint."""
    root, rng = tmp_path_factory.mktemp("tinted"), np.random.default_rng(0)
    lines = ["path,label,split,group"]
    for i in range(24):
        name, group = f"{i}.avi", i // 3
        noise = rng.normal(rng.uniform(50, 110), 25, (12, 32, 40, 3))
        noise[..., i % 3] += 100
        writer = cv2.VideoWriter(str(root / name), cv2.VideoWriter.fourcc(*"MJPG"), 25, (40, 32))
        for frame in noise.clip(0, 255).astype(np.uint8):
            writer.write(frame)
        writer.release()
        lines.append(f"{name},{'abc'[i % 3]},{'test' if group < 3 else 'train'},g{group}")
    (root / "tinted.csv").write_text("\n".join(lines) + "\n")
    prep_frames(str(root / "tinted.csv"), store=str(root / "tinted.zarr"), workers=1)
    return ClipStore(root / "tinted.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["linear-augmented", "finetune"])
def test_training_beats_chance(tinted: ClipStore, tmp_path: Path, mode: Mode) -> None:
    settings = replace(SETTINGS, size=24, jitter_probability=0.0, grayscale_probability=0.0)
    recipe = Recipe(epochs=20, batch_size=8, lr=0.03, dropout=0.2, clips=2, crops=10)
    tuned = new(tinted, tmp_path, mode=mode, recipe=recipe, settings=settings)
    probabilities = tuned()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    labels = np.array([entry.label for entry in tuned.task.division.test])
    right = np.array(tuned.task.classes)[probabilities.argmax(axis=1)] == labels
    # Chance is a third: of 9 tosses 7 come right once in 120 times.
    assert (len(right), right.sum() >= 7) == (9, True)


@pytest.mark.parametrize("mode", ["linear-augmented", "finetune"])
def test_what_is_trained(scenes: ClipStore, tmp_path: Path, mode: Mode) -> None:
    tuned = new(scenes, tmp_path, mode=mode)
    before, encoder = weights(tuned), new_encoder("small", seed=0).state_dict()
    tuned()
    after = weights(tuned)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    backbone = {key for key in before if key.startswith("backbone.")}
    assert before.keys() - backbone == {"linear.weight", "linear.bias"}
    assert {f"backbone.{key}" for key in encoder if not key.startswith("head.")} == backbone
    assert all(torch.equal(before[key], encoder[key.removeprefix("backbone.")]) for key in backbone)
    if mode == "finetune":
        # Running means and variances as well.
        assert changed == set(before)
    else:
        assert changed == {"linear.weight", "linear.bias"}


def test_rates_are_those_of_the_method(scenes: ClipStore, tmp_path: Path) -> None:
    paper = Recipe()
    rates = [paper.rate(epoch) for epoch in range(paper.epochs)]
    assert rates == pytest.approx([1e-3] * 60 + [1e-4] * 40 + [1e-5] * 50)
    few = [Recipe(epochs=15, lr=1.0).rate(epoch) for epoch in range(15)]
    assert few == pytest.approx([1] * 6 + [0.1] * 4 + [0.01] * 5)
    tuned = new(scenes, tmp_path, recipe=replace(SHORT, epochs=5, lr=1.0))
    seen: list[tuple[float, ...]] = []
    real = tuned.task.loss

    def loss(*args: Any, **options: Any) -> Any:
        seen.append(tuple(g["lr"] for g in tuned.task.optimiser.param_groups))
        value, sums = real(*args, **options)
        return 0 * value, sums

    tuned.task.loss = loss  # type: ignore[method-assign]
    tuned()
    steps = len(tuned.task.plan(0))
    assert [a for a, _ in seen[::steps]] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [b for _, b in seen] == pytest.approx([a / 10 for a, _ in seen])
    assert [line["lr"] for line in tuned.task.history] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    decays = {group["weight_decay"] for group in tuned.task.optimiser.param_groups}
    assert (type(tuned.task.optimiser), decays) == (torch.optim.Adam, {1e-3})


def test_the_best_epoch_is_tested_and_of_equals_the_later(
    scenes: ClipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = new(scenes, tmp_path, recipe=replace(SHORT, epochs=5))
    scores, kept = iter([0.2, 0.5, 0.4, 0.5, 0.3]), []

    def validate(epoch: int) -> dict[str, float]:
        kept.append(weights(tuned))
        return {"validation_top1": next(scores)}

    monkeypatch.setattr(tuned.task, "validate", validate)
    tuned()
    assert tuned.task.best_epoch == 4
    assert [same(weights(tuned), of) for of in kept] == [False, False, False, True, False]


def test_the_test_videos_are_looked_at_once_at_the_end(
    scenes: ClipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []
    real = finetuning.mean_probabilities

    def recorded(network: Any, readers: Any, entries: Any, **options: Any) -> np.ndarray:
        asked.append({entry.id for entry in entries})
        return real(network, readers, entries, **options)

    monkeypatch.setattr(finetuning, "mean_probabilities", recorded)
    tuned = new(scenes, tmp_path)
    tuned()
    parts = tuned.task.division
    assert asked == [{e.id for e in parts.validation}] * 3 + [{e.id for e in parts.test}]
    trained = {
        clip.video for epoch in range(3) for batch in tuned.task.plan(epoch) for clip in batch
    }
    assert trained == {e.id for e in parts.train}
    assert not trained & asked[-1]
    assert not asked[0] & asked[-1]


def stop_and_go_on(
    store: ClipStore, folder: Path, stop: int, act: Callable[[], object], mode: Mode = "finetune"
) -> tuple[int, int]:
    """Call `act` before a step, train on afterwards, compare with an undisturbed training.

    Returns:
        Epoch and step from which it went on.
    """
    whole, broken = (new(store, folder / name, mode=mode) for name in "ab")
    expected, real, steps = whole(), Loop._step, []

    def interrupted(self: Loop, epoch: Any, batch: Any, parts: Any) -> int | None:
        steps.append(1)
        if len(steps) == stop:
            act()
        return real(self, epoch, batch, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            broken()
    assert len(steps) == stop
    again = new(store, folder / "b", mode=mode)
    begun = again.progress
    assert np.array_equal(again(), expected)
    assert same(weights(again), weights(whole))
    assert again.task.state() == whole.task.state()
    assert again.progress == whole.progress
    assert [p.name for p in (folder / "b").iterdir()] == ["some.checkpoint"]
    return begun


@pytest.mark.parametrize(("stop", "mode"), [(1, "finetune"), (6, "linear-augmented")])
def test_an_interrupted_training_goes_on_exactly(
    scenes: ClipStore, tmp_path: Path, stop: int, mode: Mode
) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    assert stop_and_go_on(scenes, tmp_path, stop, killed, mode)[0] == (stop - 1) // 4


@pytest.mark.parametrize("stop", [6, 12])
def test_a_training_told_to_stop_finishes_its_step_and_keeps_it(
    scenes: ClipStore, tmp_path: Path, stop: int
) -> None:
    epoch, step = stop_and_go_on(scenes, tmp_path, stop, lambda: signal.raise_signal(signal.SIGINT))
    assert epoch * 4 + step == stop


def test_of_too_few_groups_none_is_held_out(work: Path) -> None:
    said: list[str] = []
    result = classify(
        find_run(None), mode="finetune", options=QUICK, clips=1, workers=0, say=said.append
    )
    assert (result["train"], result["validation"], result["test"]) == (18, 0, 6)
    assert (result["best_epoch"], result["validation_top1"]) == (2, None)
    assert any("weights of the last epoch" in line for line in said)


@pytest.mark.parametrize("mode", ["linear-augmented", "finetune"])
def test_result_of_a_run(
    work: Path, scenes: ClipStore, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    options = {"mode": mode, "store": str(scenes.path), "workers": 0, "options": QUICK, "clips": 2}
    said: list[str] = []
    result = classify(find_run(None), **options, say=said.append)
    sizes = [result[key] for key in ("train", "validation", "test", "clips", "crops", "epochs")]
    assert sizes == [18, 6, 12, 2, 1, 2]
    assert 0 <= result["top1"] <= result["top5"] == 1.0
    assert any("about" in line and line.split("about ")[1][0].isdigit() for line in said)
    content = json.loads(Path(result["confusion"]).read_text())
    assert Path(result["confusion"]).name.startswith(f"{mode}-scenes-split1-")
    tested = {e.id: e.label for e in scenes.entries() if e.split1 == "test"}
    assert {v: row["label"] for v, row in content["predictions"].items()} == tested
    matrix = np.array(content["matrix"])
    assert (matrix.sum(), np.trace(matrix) / 12) == (12, pytest.approx(result["top1"]))
    assert [line["epoch"] for line in content["history"]] == [1, 2]
    # The answer is there: nothing is computed.
    monkeypatch.setattr(finetune, "pick_device", None)
    assert classify(find_run(None), **options, say=str) == result


def test_what_a_killed_process_left_is_removed(work: Path) -> None:
    options = {"mode": "linear-augmented", "options": QUICK, "clips": 1, "workers": 0, "say": str}
    result = classify(find_run(None), **options)
    file = Path(result["confusion"])
    files = {path.name for path in file.parent.iterdir()}
    assert files == {file.name, f"{file.stem}.checkpoint"}
    for name in (f".{file.stem}.checkpoint.0123abcd", f".{file.name}.0123abcd", ".other.json.1"):
        (file.parent / name).touch()
    file.unlink()
    assert classify(find_run(None), **options) == result
    assert {path.name for path in file.parent.iterdir()} == {*files, ".other.json.1"}


def test_what_decides_the_result_decides_where_it_is_kept(work: Path) -> None:
    run, files = find_run(None), []
    about = {"mode": "linear-augmented", "clips": 1, "workers": 0, "say": str}
    for change in ({}, {"seed": 4}, {"lr": 0.5}, {"dropout": 0.0}, {"batch_size": 6}, None):
        if change is None:
            content = torch.load(run.checkpoint, weights_only=True)
            content["model"]["stem.0.weight"] += 1
            torch.save(content, run.checkpoint)
        options = {**QUICK, "epochs": 1, **(change or {})}
        files.append(classify(run, options=options, **about)["confusion"])
    assert len(set(files)) == 6


def test_command_prints_a_table_and_an_object(
    slic, work: Path, scenes: ClipStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ["eval", "classify", "--mode", "finetune", "--store", str(scenes.path)]
    words += ["--epochs", "1", "--batch-size", "9", "--clips", "1", "--crops", "10"]
    code, out, err = slic(*words, "--workers", "1", "--seed", "3")
    assert (code, "Traceback" in err) == (0, False)
    assert max(map(len, out.splitlines())) <= 80
    assert "1 clip x 10 crops each" in out
    (path,) = Path("runs").glob("*/classify/*.json")
    # However long, it is printed in full.
    assert str(path) in "".join(line.removeprefix("confusion").strip() for line in out.splitlines())
    words += ["--workers", "0", "--seed", "3", "--json"]
    code, out, err = slic(*words)
    assert (code, "already done" in err) == (0, True)
    shutil.rmtree(path.parent)
    # Any number of readers: the same result.
    assert json.loads(slic(*words)[1]) == json.loads(out)


def refused(changed: dict[str, Any], error: type, message: str) -> None:
    options = {"mode": "finetune", "workers": 0, "say": str, "options": QUICK, **changed}
    with pytest.raises(error, match=message):
        classify(find_run(None), **options)


def test_unusable_stores_are_named(work: Path, drawn: Path) -> None:
    prep_frames(str(drawn), store="flat.zarr", layout="flat", limit=4, workers=1)
    refused({"store": "flat.zarr"}, InputError, r"flat\.zarr: has no labels")
    refused({"split": 7}, StoreError, r"no split 7 \(it has 1, 2, 3\)")
    refused({"store": "nowhere.zarr"}, StoreError, r"nowhere\.zarr: no such store")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_damaged_video_is_one_line(slic, work: Path, drawn_store: Path, part: str) -> None:
    shutil.copytree(drawn_store, "some.zarr")
    entry = next(e for e in ClipStore("some.zarr").entries() if e.split1 == part)
    shard = Path("some.zarr") / "frames" / entry.key / "c.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-1000])
    words = ["eval", "classify", "--mode", "linear-augmented", "--store", "some.zarr"]
    words += ["--epochs", "1", "--batch-size", "9", "--clips", "1", "--crops", "1", "--json"]
    code, out, err = slic(*words, "--workers", "1")
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("slic:")]
    assert entry.id in line


def test_unusable_runs_are_named(work: Path) -> None:
    options = {**QUICK, "batch_size": 1}
    refused({"options": options}, InputError, "--batch-size 1: leaves a batch of one clip")
    find_run(None).checkpoint.write_bytes(b"no weights")
    refused({}, CheckpointError, "latest: not a checkpoint")


def test_damaged_progress_is_named(scenes: ClipStore, tmp_path: Path) -> None:
    tuned = new(scenes, tmp_path)
    tuned()
    path = tuned.checkpoint
    for damage in (lambda c: c.pop("model"), lambda c: c["settings"].update(classes=["a"])):
        content = torch.load(path, weights_only=True)
        damage(content)
        torch.save(content, tmp_path / "other")
        (tmp_path / "other").rename(tmp_path / "some.checkpoint")
        with pytest.raises(CheckpointError, match=r"some\.checkpoint: .*delete it to start over"):
            new(scenes, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"some\.checkpoint"):
        new(scenes, tmp_path)


def test_a_damaged_result_is_named(work: Path) -> None:
    options = {"mode": "linear-augmented", "options": QUICK, "clips": 1, "workers": 0, "say": str}
    result = classify(find_run(None), **options)
    for text in ("", "[]", '{"top1": 1}'):
        Path(result["confusion"]).write_text(text)
        with pytest.raises(CheckpointError, match="damaged; delete it"):
            classify(find_run(None), **options)


def test_a_training_that_diverges_says_so(scenes: ClipStore, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="smaller --lr"):
        new(scenes, tmp_path, recipe=replace(SHORT, lr=1e38))()
