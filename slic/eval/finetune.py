"""`slic eval classify` in the paper's form: trained on augmented clips, tested on many views."""

import copy
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.clips.samples import SampleClips
from slic.embed.cached import check_split, say_seen
from slic.encoders.checkpoints import encoder_of, load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.encoders.precision import resolve_precision
from slic.engine.checkpoint import resume
from slic.engine.estimate import overlapped
from slic.engine.loop import Loop
from slic.engine.saving import Saver
from slic.errors import CheckpointError
from slic.eval.finetuning import Finetuning
from slic.eval.holdout import divide
from slic.eval.outcome import (
    about_run,
    measure,
    read_result,
    remove_leftovers,
    result_file,
    save_outcome,
)
from slic.eval.recipe import Mode, Recipe
from slic.eval.views import ClipViews
from slic.runs import Run, lock_run
from slic.runtime.devices import pick_device
from slic.runtime.progress import format_duration

PROBE_CLIPS = 8  # timed for the estimate


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
    """Train a linear layer, or the whole network, and measure it.

    Args and result are those of `classify`. A finished result is returned from its file; an
    interrupted training is continued.
    """
    path = run.store if store is None else Path(store)
    clips = ClipStore(path)
    check_split(clips, split)
    division = divide(clips.entries(), split=split, where=path)
    say_seen(run, path, split, say)
    content = load_checkpoint(run.checkpoint)
    key = {
        "store": clips.digest(),
        "checkpoint": weights_digest(content["model"]),
        "run": run.settings.as_dict(),
        "recipe": asdict(recipe),
    }
    file = result_file(run, path, mode=mode, split=split, key=key)
    about = {**about_run(run, path, split), "mode": mode}
    if file.exists():
        say(f"already done: reading the result from {file}")
        return {**read_result(file), **about, "confusion": str(file)}
    where = pick_device(device)
    task = Finetuning(
        encoder_of(content, where=str(run.checkpoint)),
        ReaderPool(clips, workers=workers, device=where),
        mode=mode,
        settings=run.settings,
        recipe=recipe,
        division=division,
        device=where,
    )
    probabilities = _train_and_test(task, run, file, say)
    labels = np.array([entry.label for entry in division.test])
    outcome = measure(probabilities, division.classes, labels)
    about |= {
        "train": len(division.train),
        "validation": len(division.validation),
        "test": len(division.test),
        "feature": "backbone",
        "clips": recipe.clips,
        "crops": recipe.crops,
        "epochs": recipe.epochs,
        "best_epoch": task.best_epoch,
        "validation_top1": task.history[task.best_epoch - 1]["validation_top1"],
    }
    ids = [entry.id for entry in division.test]
    return save_outcome(file, about, outcome, ids, history=task.history, settings=key)


def _train_and_test(
    task: Finetuning, run: Run, file: Path, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Train the classifier, from its last checkpoint if there is one, and test it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.callback(lock_run(run.path, name=f"lock-{file.stem}"))
        remove_leftovers(file)
        loop = make_loop(task, file.with_suffix(".checkpoint"))
        _announce(task, loop, say)
        if not task.finished:
            loop()
        return task.test()


def make_loop(task: Finetuning, checkpoint: Path) -> Loop:
    """Make the loop that trains a classifier, restored from its checkpoint if there is one.

    Raises:
        CheckpointError: The checkpoint does not fit the task.
    """
    try:
        progress = resume(checkpoint, task)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it to start over") from None
    saver = Saver(task, progress, checkpoint)
    return Loop(task, saver, device=task.device)


def _announce(task: Finetuning, loop: Loop, say: Callable[[str], None]) -> None:
    videos, epochs, done = task.division, task.epochs, loop.progress.epoch
    precision = resolve_precision(task.settings.precision, task.device)
    say(
        f"{task.mode} on {task.device} in {precision}: {len(videos.classes)} classes;"
        f" {len(videos.train)} training, {len(videos.validation)} validation and"
        f" {len(videos.test)} test videos"
    )
    if not videos.validation:
        say("too few groups for validation: testing the weights of the last epoch")
    if done:
        say(f"continuing after epoch {done}")
    with task.memory():
        seconds = estimate_seconds(task, loop)
    say(f"{epochs - done} of {epochs} epochs left, then the test: about {format_duration(seconds)}")


def estimate_seconds(task: Finetuning, loop: Loop) -> float:
    """Estimate the time until the result, without that of writing checkpoints.

    Reading and computing are timed on a few training clips, and on one test clip.
    """
    store, workers, device = task.readers.store, task.readers.workers, task.device
    recipe, division, settings = task.recipe, task.division, task.settings
    samples = tuple(task.plan(0)[0][:PROBE_CLIPS])
    read_samples = SampleClips(samples, settings, cut=False)
    video = division.test[0]
    read_views = ClipViews(video.id, video.frames or 0, 0, recipe.crops, settings)
    network, clips = copy.deepcopy(task.classifier).train(), read_samples(store)
    step = _seconds(lambda: network(clips).square().mean().backward(), device) / len(samples)
    with torch.no_grad():
        forward = _seconds(lambda: network(clips), device) / len(samples)
    reading = _seconds(lambda: read_samples(store), device) / len(samples)
    cropping = _seconds(lambda: read_views(store), device) / recipe.crops
    training = overlapped(step, reading, workers=workers) * len(division.train)
    validation = overlapped(forward, reading, workers=workers) * len(division.validation)
    test = overlapped(forward, cropping, workers=workers) * len(division.test)
    epochs = 0 if task.finished else task.epochs - loop.progress.epoch
    return epochs * (training + validation) + test * recipe.clips * recipe.crops


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time the second of two calls, as the first one warms up."""
    for _ in range(2):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - begin
