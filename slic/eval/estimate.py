"""How long a classifier's training and test will take, from a few clips read and one step done."""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from slic.clips.positions import even_starts
from slic.clips.samples import SampleClips
from slic.engine.estimate import overlapped
from slic.engine.loop import Loop
from slic.eval.finetuning import Finetuning
from slic.eval.views import ClipViews

PROBE_CLIPS = 8


def estimate_seconds(task: Finetuning, loop: Loop) -> float:
    """Time until the result, from a few training clips, and one test clip's views.

    Writing checkpoints is left out.
    """
    store, workers = task.readers.store, task.readers.workers
    recipe, division, settings = task.recipe, task.division, task.settings
    clips = [clip for batch in task.plan(0) for clip in batch][:PROBE_CLIPS]
    job = SampleClips(tuple(clips), settings, cut=False)
    video = division.test[0]
    start = even_starts(video.frames or 0, 1, frames=settings.frames, stride=settings.stride)[0]
    views = ClipViews(video.id, video.frames or 0, start, recipe.crops, settings)
    reading = _seconds(lambda: job(store)) / len(clips)
    cutting = _seconds(lambda: views(store)) / recipe.crops
    step, forward = (value / len(clips) for value in _computing(task, job(store)))
    trained = overlapped(step, reading, workers=workers) * len(division.train)
    validated = overlapped(forward, reading, workers=workers) * len(division.validation)
    tested = overlapped(forward, cutting, workers=workers) * len(division.test)
    epochs = 0 if task.finished else task.epochs - loop.progress.epoch
    return epochs * (trained + validated) + tested * recipe.clips * recipe.crops


def _computing(task: Finetuning, clips: Any) -> tuple[float, float]:
    """Times of a step and of a forward alone, on a copy."""
    network, device = copy.deepcopy(task.classifier), task.device

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def step() -> None:
        network(clips).square().mean().backward()
        wait()

    @torch.no_grad()
    def forward() -> None:
        network(clips)
        wait()

    network.train()
    return _seconds(step), _seconds(forward)


def _seconds(work: Callable[[], object]) -> float:
    """Time that work takes the second time."""
    work()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
