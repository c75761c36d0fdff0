"""What the loop trains: the interface between the engine and a method or a classifier."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from slic.clips.samples import Sample
from slic.encoders.encoder import Encoder
from slic.engine.loader import SampleLoader
from slic.errors import WorkError

Record = tuple[str, Mapping[str, Any]]  # kind and values of a line in the log
Sums = dict[str, Tensor]  # float64 scalars by name, added up over an epoch


class Task(ABC):
    """Something to train: networks, batches, a loss, and the work between epochs.

    The loop calls, for each epoch from `begin_epoch` on: `plan`, then for each batch `loss` and
    `after_step`, then `validate` and `end_epoch`; and `finish` after the last epoch. Every random
    draw depends on the seed, the epoch, and the video or the step, never on what was drawn before,
    so that no generator is part of a checkpoint.

    Attributes:
        name: what is trained, as the progress bar says it.
        epochs: passes over the training videos, in all.
        epoch_steps: batches of one epoch.
        encoder: the network that others load from a checkpoint.
        network: the part whose weights are the checkpoint's `model`; usually the encoder.
        optimiser: of everything that is trained. A group's rate is multiplied by its `share`.
        loader: reads and augments the clips of a batch.
    """

    name: str
    epochs: int
    epoch_steps: int
    encoder: Encoder
    network: nn.Module
    optimiser: torch.optim.Optimizer
    loader: SampleLoader

    @property
    @abstractmethod
    def recorded_settings(self) -> dict[str, Any]:
        """What decides the result, by name; a checkpoint of other settings is refused."""

    @property
    @abstractmethod
    def lower_memory(self) -> str:
        """What to do where the GPU's memory does not suffice, as an instruction."""

    @abstractmethod
    def plan(self, epoch: int) -> list[list[Sample]]:
        """The batches of an epoch, counted from 0."""

    @abstractmethod
    def loss(
        self, clips: Tensor, batch: Sequence[Sample], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """Compute the loss of a batch, without waiting for the device.

        Args:
            clips: `(V, b, T, size, size, 3)` uint8 on the device: V clips of each of b samples;
                of several processes, this one's share of the batch.
            batch: the whole batch.
            epoch, step: the epoch, and the step within it, from 0.

        Returns:
            The scalar loss of the whole batch, and sums for the epoch's record; `loss` is one.
        """

    @abstractmethod
    def learning_rate(self, epoch: int, step: int) -> float:
        """The rate of a step, counted from 0 over all epochs."""

    @abstractmethod
    def end_epoch(
        self,
        plan: Sequence[Sequence[Sample]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """Close an epoch, and return what its line in the log says of it.

        Args:
            plan: its batches.
            sums: over its steps.
            measured: what `validate` returned.
            epoch: its number.
        """

    @abstractmethod
    def diverged(
        self, what: str, batch: Sequence[Sample], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """The error of a `what` (loss or weights) that is not finite after a batch."""

    def enter(self, epoch: int) -> None:  # noqa: B027 - most tasks have one stage
        """Set up what depends on the number of the epoch alone, such as a stage's optimiser.

        Called once for each epoch: at the start, behind the epoch before, or before a checkpoint
        that was made in or behind it is restored.
        """

    def begin_epoch(self, epoch: int) -> Record | None:
        """Do the work due before an epoch; what is returned is logged, and a checkpoint saved."""
        return None

    def after_step(self) -> None:  # noqa: B027
        """Follow a step of the optimiser, as a momentum encoder does."""

    def validate(self, epoch: int) -> dict[str, Any]:
        """Measure after the last step of an epoch; it may be interrupted, and done again."""
        return {}

    def finish(self, epoch: int) -> Record | None:
        """Do the work due after the last epoch; what is returned is logged."""
        return None

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Name what to lower where the GPU's memory does not suffice in the block.

        Raises:
            WorkError: it does not.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise WorkError(f"the GPU is out of memory: {self.lower_memory}") from error

    def has_settings(self, found: Any) -> bool:
        """Whether settings read from a checkpoint are those of this task."""
        plain = isinstance(found, dict) and all(map(_is_plain, found.values()))
        return plain and found == self.recorded_settings

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside network and optimiser: tensors and plain values."""
        return {}

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore what `state` returned during an epoch.

        Raises:
            ValueError: it is not a state of this task; nothing has been changed.
        """
        if state:
            raise ValueError("a state where there should be none")


def _is_plain(value: Any) -> bool:
    """Whether a value can be compared without surprises: a number, a text, or a list of texts."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return type(value) in (str, int, float, bool)
