"""`slic eval classify` in the paper's form: trained on augmented clips, tested on many views."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.embed.cached import say_seen
from slic.encoders.checkpoints import encoder_of, load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.encoders.precision import resolve_precision
from slic.eval.estimate import estimate_seconds
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
from slic.eval.task import Task
from slic.eval.tuning import Finetuning
from slic.runs import Run, lock_run
from slic.runtime.devices import pick_device, reading_workers
from slic.runtime.progress import clock


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
        workers=reading_workers(where) if workers is None else workers,
        pin=where.type == "cuda",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    unlock = lock_run(run.path, name=f"lock-{file.stem}")
    remove_leftovers(file)
    task = Task(mode, run.settings, recipe, division, file.with_suffix(".checkpoint"))
    encoder = encoder_of(content, where=str(run.checkpoint))
    tuning = Finetuning(encoder, readers, task, device=where)
    try:
        _announce(tuning, say)
        probabilities = tuning()
    finally:
        unlock()
    labels = np.array([entry.label for entry in division.test])
    outcome = measure(probabilities, division.classes, labels)
    history = tuning.state.history
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
        "best_epoch": tuning.state.best_epoch,
        "validation_top1": history[tuning.state.best_epoch - 1]["validation_top1"],
        "per_class": outcome.per_class,
        "confusion": str(file),
    }
    ids = [entry.id for entry in division.test]
    details = {**details_of(outcome, ids, labels), "history": history, "settings": key}
    write_result(file, result, details)
    return result


def _announce(tuning: Finetuning, say: Callable[[str], None]) -> None:
    task, device = tuning.task, tuning.device
    d, epochs = task.division, task.recipe.epochs
    arithmetic = resolve_precision(task.settings.precision, device)
    say(
        f"{task.mode} on {device} in {arithmetic}: {len(d.train)} videos to train on,"
        f" {len(d.validation)} to choose the epoch by, {len(d.test)} to test,"
        f" {len(d.classes)} classes"
    )
    if not d.validation:
        say("too few groups to hold any out: the last epoch is tested")
    if tuning.state.epoch:
        say(f"continuing after epoch {tuning.state.epoch}")
    seconds = clock(estimate_seconds(tuning))
    say(f"{tuning.epochs_left} of {epochs} epochs left, then the test: about {seconds}")
