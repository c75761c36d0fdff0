"""Train any task: epochs of batches, saved so that training can be interrupted anywhere."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from slic.clips.samples import Sample
from slic.engine.distributed import Advance, StoppedTogether, first_progress, synchronised_batches
from slic.engine.epoch import Epoch
from slic.engine.profile import Profile
from slic.engine.saving import Saver
from slic.engine.task import Task
from slic.runtime.signals import defer_stops


class Loop:
    """Trains a task from its last checkpoint to the end.

    Args:
        task: task to train.
        saver: saver of the task, which knows its progress and the ranks that train it.
        device: device to train on.
        profile: measures the time of each part of a step; by default nothing is measured.
    """

    def __init__(
        self, task: Task, saver: Saver, *, device: torch.device, profile: Profile | None = None
    ) -> None:
        self.task, self.saver, self.progress, self.ranks = task, saver, saver.progress, saver.ranks
        self.device, self.profile = device, profile or Profile(device, enabled=False)
        self._in_step = False

    @property
    def steps_left(self) -> int:
        """Number of steps until the end."""
        return self.task.epochs * self.task.epoch_steps - self.progress.total_steps

    def __call__(self) -> None:
        """Train to the end. A run interrupted anywhere continues exactly where it was.

        Raises:
            WorkError: out of GPU memory, a reader process died, or a value is not finite.
            KeyboardInterrupt: a stop was requested; the last finished step has been saved.
        """
        task, progress, saver = self.task, self.progress, self.saver
        bar = first_progress(self.ranks, self.steps_left, task.name)
        with task.memory(), saver.opened(), bar as advance:
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
            # Several processes can only save together.
            together = self.ranks.is_single or isinstance(stop, StoppedTogether)
            if together and not self._in_step:
                with defer_stops():
                    self.saver.save_within(epoch)
            raise
        with defer_stops():
            self.saver.check(epoch)
            values = task.end_epoch(epoch.plan, epoch.sums, measured, epoch=epoch.number)
            # Not the optimiser's: if training continues after the last step, it has none yet.
            rate = task.learning_rate(epoch.number, progress.total_steps - 1)
            took = {"lr": rate, "seconds": round(time.monotonic() - begin, 3)}
            progress.epoch, progress.step, progress.sums = epoch.number + 1, 0, {}
            if progress.epoch < task.epochs:
                task.enter(progress.epoch)  # before saving, so that a stage's optimiser is saved
            self.saver.save(("epoch", {"epoch": epoch.number, **values, **took}))

    def _steps(self, epoch: Epoch, advance: Advance) -> None:
        loader, left = self.task.loader, epoch.plan[self.progress.step :]
        shares = [self.ranks.share(batch) for batch in left]
        with synchronised_batches(loader.batches(shares), self.ranks) as batches:
            for batch, parts in zip(left, self.profile.waiting(batches), strict=True):
                with defer_stops():
                    bad = self._step(epoch, batch, parts)
                if bad is not None:
                    self.saver.fail(epoch, "loss", bad)
                advance(1, loader.clips * len(batch))
                if self.saver.due():
                    self.saver.save_within(epoch)

    def _step(self, epoch: Epoch, batch: Sequence[Sample], parts: list[Any]) -> int | None:
        """Train on one batch; return the first step whose loss is not finite, if one is known."""
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
