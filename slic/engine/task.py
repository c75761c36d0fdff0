"""The interface between the loop and what it trains: a pretraining method or a classifier."""

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

    For each epoch from `begin_epoch` on, the loop calls `plan`, then `loss` and `after_step` for
    each batch, then `validate` and `end_epoch`; after the last epoch, `finish`. Every random draw
    must depend on the seed, the epoch, and the video or step only, never on earlier draws, so that
    no generator needs to be part of a checkpoint.

    Attributes:
        name: description for the progress bar.
        epochs: number of epochs in all.
        epoch_steps: number of batches of one epoch.
        encoder: network that `load_encoder` loads from a checkpoint.
        network: module whose weights are the checkpoint's `model`; usually the encoder.
        optimiser: optimiser of everything trained. The learning rate of a parameter group is
            multiplied by its `share`, if it has one.
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
        """All settings that affect the result, by name; a checkpoint with others is refused."""

    @property
    @abstractmethod
    def lower_memory(self) -> str:
        """Advice for a GPU that is out of memory, as an instruction."""

    @abstractmethod
    def plan(self, epoch: int) -> list[list[Sample]]:
        """Return the batches of an epoch, counted from 0."""

    @abstractmethod
    def loss(
        self, clips: Tensor, batch: Sequence[Sample], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """Compute the loss of a batch, without waiting for the device.

        Args:
            clips: `(V, b, T, size, size, 3)` uint8 on the device: V clips of each of b samples,
                this rank's share of the batch.
            batch: samples of the whole batch.
            epoch: number of the epoch, from 0.
            step: number of the step in the epoch, from 0.

        Returns:
            The scalar loss of the whole batch, and sums for the log, of which `loss` is one.
        """

    @abstractmethod
    def learning_rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""

    @abstractmethod
    def end_epoch(
        self,
        plan: Sequence[Sequence[Sample]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """Finish an epoch, and return the values of its line in the log.

        Args:
            plan: batches of the epoch.
            sums: sums over its steps.
            measured: what `validate` returned.
            epoch: number of the epoch, from 0.
        """

    @abstractmethod
    def diverged(
        self, what: str, batch: Sequence[Sample], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """Return the error to raise when a `what` (loss or weights) is not finite after a batch."""

    def enter(self, epoch: int) -> None:  # noqa: B027 - most tasks have one stage
        """Set up whatever depends on the epoch's number only, such as the optimiser of a stage.

        Called once for each epoch: at the start, after the previous epoch, or before a checkpoint
        of that epoch is restored.
        """

    def begin_epoch(self, epoch: int) -> Record | None:
        """Do the work due before an epoch; a result is logged, and a checkpoint saved."""
        return None

    def after_step(self) -> None:  # noqa: B027
        """Update whatever follows a step of the optimiser, such as a momentum encoder."""

    def validate(self, epoch: int) -> dict[str, Any]:
        """Measure after the last step of an epoch; repeated if it is interrupted."""
        return {}

    def finish(self, epoch: int) -> Record | None:
        """Do the work due after the last epoch; a result is logged."""
        return None

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Turn a CUDA out-of-memory error into a WorkError that says what to lower."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise WorkError(f"the GPU is out of memory: {self.lower_memory}") from error

    def has_settings(self, found: Any) -> bool:
        """Return whether settings read from a checkpoint are those of this task."""
        try:
            return bool(found == self.recorded_settings)
        except RuntimeError:  # a tensor among them
            return False

    def state(self) -> dict[str, Any]:
        """Return the state to save beside network and optimiser: tensors and plain values."""
        return {}

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore what `state` returned during an epoch.

        Raises:
            ValueError: not a state of this task; nothing has been changed.
        """
        if state:
            raise ValueError("an unexpected state")
