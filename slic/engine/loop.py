"""The loop that trains any task: epochs of batches, saved so that it can be stopped anywhere."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from slic.clips.samples import Sample
from slic.engine.epoch import Epoch
from slic.engine.profile import Profile
from slic.engine.saving import Saver
from slic.engine.synchronised import Advance, can_save, in_step, shown
from slic.engine.task import Task
from slic.runtime.signals import defer_stops


class Loop:
    """Trains a task from where its checkpoint stands to the end.

    Args:
        task: what is trained.
        saver: of the task, knows how far it is, and the processes that train it together, each
            on its share of every batch.
        device: where it is trained.
        profile: takes the time of each part of a step.
    """

    def __init__(self, task: Task, saver: Saver, *, device: torch.device, profile: Profile) -> None:
        self.task, self.saver, self.progress, self.ranks = task, saver, saver.progress, saver.ranks
        self.device, self.profile = device, profile
        self._in_step = False

    @property
    def steps_left(self) -> int:
        """Steps until the end."""
        return self.task.epochs * self.task.epoch_steps - self.progress.total_steps

    def __call__(self) -> None:
        """Train to the end; what was interrupted anywhere goes on exactly where it was.

        Raises:
            WorkError: the GPU's memory does not suffice, a worker died, or a value is not finite.
            KeyboardInterrupt: it was told to stop; the checkpoint is of the last step done.
        """
        task, progress, saver = self.task, self.progress, self.saver
        steps = shown(self.ranks, self.steps_left, task.name)
        with task.memory(), saver.opened(), steps as advance:
            while progress.epoch < task.epochs:
                saver.save_between(task.begin_epoch(progress.epoch))
                self._epoch(advance)
            saver.save_between(task.finish(progress.epoch))
            saver.save_done()

    def _epoch(self, advance: Advance) -> None:
        task, progress, begin = self.task, self.progress, time.monotonic()
        epoch = Epoch(progress.epoch, task.plan(progress.epoch), progress.sums, self.device)
        task.network.train()
        try:
            self._steps(epoch, advance)
            measured = task.validate(epoch.number)
        except KeyboardInterrupt as stop:
            if not self._in_step and can_save(stop, self.ranks):
                with defer_stops():
                    self.saver.save_within(epoch)
            raise
        with defer_stops():
            self.saver.check(epoch)
            values = task.end_epoch(epoch.plan, epoch.sums, measured, epoch=epoch.number)
            # The optimiser's own is not that of the last step where a training goes on after it.
            rate = task.learning_rate(epoch.number, progress.total_steps - 1)
            took = {"lr": rate, "seconds": round(time.monotonic() - begin, 3)}
            progress.epoch, progress.step, progress.sums = epoch.number + 1, 0, {}
            if progress.epoch < task.epochs:
                task.enter(progress.epoch)  # a stage's optimiser is saved as it begins
            self.saver.save(("epoch", {"epoch": epoch.number, **values, **took}))

    def _steps(self, epoch: Epoch, advance: Advance) -> None:
        loader, left = self.task.loader, epoch.plan[self.progress.step :]
        mine = [self.ranks.share(batch) for batch in left]
        with in_step(loader.batches(mine), self.ranks) as read:
            for batch, parts in zip(left, self.profile.waiting(read), strict=True):
                with defer_stops():
                    bad = self._step(epoch, batch, parts)
                if bad is not None:
                    self.saver.fail(epoch, "loss", bad)
                advance(1, loader.clips * len(batch))
                if self.saver.due():
                    self.saver.save_within(epoch)

    def _step(self, epoch: Epoch, batch: Sequence[Sample], parts: list[Any]) -> int | None:
        """Train on one batch; the first step whose loss is not finite, if one is known by now."""
        task, progress, phase = self.task, self.progress, self.profile.phase
        self._in_step = True
        with phase("to the device"):
            clips = task.loader.on_device(parts, self.device)
        rate = task.learning_rate(epoch.number, progress.total_steps)
        for group in task.optimiser.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        loss, sums = task.loss(clips, batch, epoch=epoch.number, step=progress.step)
        task.optimiser.zero_grad(set_to_none=True)
        with phase("backward"):
            loss.backward()
        with phase("optimiser"):
            task.optimiser.step()
        task.after_step()
        bad = epoch.add(progress.step, sums)
        progress.step += 1
        progress.total_steps += 1
        self._in_step = False
        return bad
