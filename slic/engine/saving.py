"""Save a training: write a line of the log and then the checkpoint, after checking both."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from slic.engine.checkpoint import Progress, save_checkpoint
from slic.engine.distributed import SINGLE, Ranks
from slic.engine.divergence import finite_weights
from slic.engine.epoch import Epoch
from slic.engine.log import Recorder
from slic.engine.task import Record, Task
from slic.runs import Run
from slic.runtime.signals import defer_stops

CHECKPOINT_EVERY_S = 600.0  # within an epoch


class Saver:
    """Saves one training. With several processes rank 0 writes, and the others wait for it.

    Args:
        task: task to save.
        progress: progress of the task.
        path: path of the latest checkpoint.
        ranks: processes that train together.
        run: run whose log is written; None to write checkpoints only.
        keep: also keep a separate checkpoint for each record between epochs.
    """

    def __init__(
        self,
        task: Task,
        progress: Progress,
        path: Path,
        *,
        ranks: Ranks = SINGLE,
        run: Run | None = None,
        keep: bool = False,
    ) -> None:
        self.task, self.progress, self.path = task, progress, path
        self.ranks, self.run, self.keep = ranks, run, keep
        self._log: Recorder | None = None
        self._saved_at = time.monotonic()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the log, cut to the lines that the checkpoint counts, and close it at the end."""
        self.ranks.on_first(self._open)
        try:
            yield
        finally:
            if self._log is not None:
                self._log.close()

    def _open(self) -> None:
        if self.run is not None:
            self._log = Recorder(self.run, lines=self.progress.lines)

    def due(self) -> bool:
        """Return whether a checkpoint within the epoch is due on any rank."""
        (due,) = self.ranks.any(time.monotonic() - self._saved_at > CHECKPOINT_EVERY_S)
        return due

    def save(self, record: Record | None = None, *, name: str | None = None) -> None:
        """Append a line to the log, if there is one, and save a checkpoint."""
        self.ranks.on_first(partial(self._write, record, name or self.path.name))
        self._saved_at = time.monotonic()

    def save_between(self, record: Record | None) -> None:
        """Save the work done between two epochs, if there was any."""
        if record is None:
            return
        with defer_stops():
            self.save(record)
        if self.keep:
            self.save(name=f"epoch{self.progress.epoch:05d}")

    def save_done(self) -> None:
        """Save the end of the training; a run that is trained to its end stays as it is."""
        self.ranks.on_first(self._write_done)

    def _write_done(self) -> None:
        if self.run is None or not self.run.records("done"):
            self._write(("done", {"epoch": self.progress.epoch}), self.path.name)

    def save_within(self, epoch: Epoch) -> None:
        """Save a checkpoint in the middle of an epoch."""
        self.check(epoch)
        self.progress.sums = epoch.sums
        self.save()

    def _write(self, record: Record | None, name: str) -> None:
        if self._log is not None:
            if record is not None:
                kind, values = record
                self._log.write(kind, self.progress.total_steps, values)
            self.progress.lines = self._log.lines
        save_checkpoint(self.path.with_name(name), self.task, self.progress)

    def check(self, epoch: Epoch) -> None:
        """Average the running statistics over all ranks, and refuse values that are not finite.

        Raises:
            WorkError: the loss of a step, or a weight, is not finite.
        """
        statistics = [b for b in self.task.network.buffers() if b.is_floating_point()]
        self.ranks.average(statistics)
        if (bad := epoch.bad_step()) is not None:
            self.fail(epoch, "loss", bad)
        if not finite_weights(self.task.network):
            self.fail(epoch, "weights", self.progress.step - 1)

    def fail(self, epoch: Epoch, what: str, step: int) -> None:
        """End the training because a `what` is not finite after a step of the epoch."""

        def fail() -> None:
            raise self.task.diverged(
                what,
                epoch.plan[step],
                epoch=epoch.number,
                step=self.progress.total_steps - self.progress.step + step + 1,
                rate=self.task.optimiser.param_groups[0]["lr"],
            )

        self.ranks.on_first(fail)
