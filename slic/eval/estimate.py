"""How long a classifier's training and test will take, from a few clips read and one step done."""

import copy
import time
from collections.abc import Callable

import torch

from slic.clips.positions import even_starts
from slic.eval.augmented import AugmentedClips
from slic.eval.tuning import Finetuning
from slic.eval.views import ClipViews

PROBE_CLIPS = 8


def estimate_seconds(tuning: Finetuning) -> float:
    """Time until the result, from a few training clips, and one test clip's views.

    Writing checkpoints is left out.
    """
    task, store = tuning.task, tuning.readers.store
    recipe, division, settings = task.recipe, task.division, task.settings
    clips = [clip for batch in task.plan(0) for clip in batch][:PROBE_CLIPS]
    job = AugmentedClips(tuple(clips), settings)
    video = division.test[0]
    start = even_starts(video.frames or 0, 1, frames=settings.frames, stride=settings.stride)[0]
    views = ClipViews(video.id, video.frames or 0, start, recipe.crops, settings)
    reading = _seconds(lambda: job(store)) / len(clips)
    cutting = _seconds(lambda: views(store)) / recipe.crops
    step, forward = (value / len(clips) for value in _computing(tuning, job(store)))
    workers = tuning.readers.workers
    trained = _together(step, reading, workers) * len(division.train)
    validated = _together(forward, reading, workers) * len(division.validation)
    tested = _together(forward, cutting, workers) * len(division.test)
    epochs = 0 if tuning.state.finished else tuning.epochs_left
    return epochs * (trained + validated) + tested * recipe.clips * recipe.crops


def _computing(tuning: Finetuning, clips: torch.Tensor) -> tuple[float, float]:
    """Times of a step and of a forward alone, on a copy."""
    network, device = copy.deepcopy(tuning.network), tuning.device

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


def _together(computing: float, reading: float, workers: int) -> float:
    return max(computing, reading / workers) if workers else computing + reading
