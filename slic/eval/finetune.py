"""`slic eval classify` in the paper's form: trained on augmented clips, tested on many views."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.embed.cached import say_seen
from slic.encoders.checkpoints import encoder_of, load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.encoders.precision import resolve_precision
from slic.engine.checkpoint import resume
from slic.engine.distributed import ALONE
from slic.engine.loop import Loop
from slic.engine.profile import Profile
from slic.engine.saving import Saver
from slic.errors import CheckpointError
from slic.eval.estimate import estimate_seconds
from slic.eval.finetuning import Finetuning
from slic.eval.holdout import divide
from slic.eval.outcome import (
    details_of,
    measure,
    read_result,
    remove_leftovers,
    result_file,
    write_result,
)
from slic.eval.recipe import Mode, Recipe
from slic.runs import Run, lock_run
from slic.runtime.devices import default_readers, pick_device
from slic.runtime.progress import format_duration


def finetune(
    run: Run,
    *,
    mode: Mode,
    store: str | None,
    split: int,
    recipe: Recipe,
    device: str,
    workers: int | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train a linear layer, or the whole network, and measure it; as `classify`.

    What is there already is answered with; what was interrupted is continued.
    """
    path = Path(store) if store is not None else run.store
    clips = ClipStore(path)
    division = divide(clips.entries(), split=split, where=path)
    say_seen(run, path, split, say)
    content = load_checkpoint(run.checkpoint)
    key = {
        "store": clips.digest(),
        "checkpoint": weights_digest(content["model"]),
        "run": run.settings.as_dict(),
        "recipe": recipe.as_dict(),
    }
    file = result_file(run, path, mode=mode, split=split, key=key)
    about = {"run": str(run.path), "store": str(path), "split": split, "mode": mode}
    about["pretrained_on"] = None if run.imported else run.settings.split
    if file.exists():
        say(f"done already; the result is that of {file}")
        return {**read_result(file), **about, "confusion": str(file)}
    where = pick_device(device)
    readers = ReaderPool(
        clips,
        workers=default_readers(where) if workers is None else workers,
        pin=where.type == "cuda",
    )
    task = Finetuning(
        encoder_of(content, where=str(run.checkpoint)),
        readers,
        mode=mode,
        settings=run.settings,
        recipe=recipe,
        division=division,
        device=where,
    )
    probabilities = _trained(task, run, file, say)
    labels = np.array([entry.label for entry in division.test])
    outcome = measure(probabilities, division.classes, labels)
    history = task.history
    result = {
        **about,
        "train": len(division.train),
        "validation": len(division.validation),
        "test": len(division.test),
        "top1": outcome.top1,
        "top5": outcome.top5,
        "feature": "backbone",
        "clips": recipe.clips,
        "crops": recipe.crops,
        "epochs": recipe.epochs,
        "best_epoch": task.best_epoch,
        "validation_top1": history[task.best_epoch - 1]["validation_top1"],
        "per_class": outcome.per_class,
        "confusion": str(file),
    }
    ids = [entry.id for entry in division.test]
    details = {**details_of(outcome, ids, labels), "history": history, "settings": key}
    write_result(file, result, details)
    return result


def _trained(
    task: Finetuning, run: Run, file: Path, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Train a classifier to its end, from its checkpoint on if there is one, and test it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unlock = lock_run(run.path, name=f"lock-{file.stem}")
    try:
        remove_leftovers(file)
        loop = loop_of(task, file.with_suffix(".checkpoint"))
        _announce(task, loop, say)
        if not task.finished:
            loop()
        return task.test()
    finally:
        unlock()


def loop_of(task: Finetuning, checkpoint: Path) -> Loop:
    """The loop that trains a classifier, from its checkpoint on if there is one.

    Raises:
        CheckpointError: a checkpoint that does not fit.
    """
    try:
        progress = resume(checkpoint, task)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it to begin again") from None
    saver = Saver(task, progress, checkpoint, ranks=ALONE)
    profile = Profile(task.device, wanted=False)
    return Loop(task, saver, device=task.device, profile=profile)


def _announce(task: Finetuning, loop: Loop, say: Callable[[str], None]) -> None:
    d, epochs = task.division, task.epochs
    arithmetic = resolve_precision(task.settings.precision, task.device)
    say(
        f"{task.mode} on {task.device} in {arithmetic}: {len(d.train)} videos to train on,"
        f" {len(d.validation)} to choose the epoch by, {len(d.test)} to test,"
        f" {len(d.classes)} classes"
    )
    if not d.validation:
        say("too few groups to hold any out: the last epoch is tested")
    if loop.progress.epoch:
        say(f"continuing after epoch {loop.progress.epoch}")
    with task.memory():
        seconds = format_duration(estimate_seconds(task, loop))
    say(f"{epochs - loop.progress.epoch} of {epochs} epochs left, then the test: about {seconds}")
