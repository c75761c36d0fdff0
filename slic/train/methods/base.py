"""What all methods of pretraining have in common; a method is a task of the engine's loop."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from slic.cache import Entry
from slic.clips.reading import ReaderPool
from slic.clips.samples import Sample
from slic.config import Settings, with_defaults
from slic.encoders.encoder import new_encoder
from slic.encoders.weights import Weights, load_weights
from slic.engine.distributed import ALONE, Ranks
from slic.engine.divergence import FAILED_STEP, not_finite
from slic.engine.forward import ComputeOptions, Forward, make_forward
from slic.engine.loader import SampleLoader
from slic.engine.optimise import learning_rate, make_optimiser
from slic.engine.profile import Profile
from slic.engine.task import Task
from slic.errors import SettingsError, WorkError
from slic.runs import Run
from slic.train.training_set import tested_entries, training_entries


class Method(Task):
    """A way to pretrain an encoder on the training videos of a store.

    A method says what differs: its settings, the clips of a sample, the loss, and the work between
    epochs. One with more networks than `encoder` keeps them in its `state`.

    Attributes:
        Settings: class of its settings.
        clips_per_sample: V.
        clusters_videos: whether it logs clusterings, with the recall of their embeddings.
        settings: of the run.
        entries, lengths: the training videos, and `{video id: frames}`.
        tested: labelled test videos, whose recall is recorded and never looked at.
        truth: `{video id: code of its label}`, where it has one; for figures alone.

    Args:
        run: its folder and settings.
        readers: of its store.
        compute: device, and how to compute.
        weights: to start from, rather than random ones.
        ranks: the processes that train together.
        profile: takes the time of each part of a step.
        say: takes lines meant for the user.

    Raises:
        StoreError: the store cannot be trained on.
    """

    Settings: ClassVar[type[Settings]]
    clips_per_sample: ClassVar[int]
    clusters_videos: ClassVar[bool] = False
    name = "train"

    def __init__(
        self,
        run: Run,
        readers: ReaderPool,
        *,
        compute: ComputeOptions,
        profile: Profile,
        weights: Weights | None = None,
        ranks: Ranks = ALONE,
        say: Callable[[str], None] = print,
    ) -> None:
        self.run, self.readers, self.compute, self.profile = run, readers, compute, profile
        self.ranks, self.say = ranks, say
        self.settings = s = run.settings
        self.entries = training_entries(readers.store, s)
        self.tested = tested_entries(readers.store, s)
        self.lengths = {entry.id: entry.frames or 0 for entry in self.entries}
        names = sorted({entry.label for entry in self.entries if entry.label is not None})
        codes = {name: code for code, name in enumerate(names)}
        self.truth = {e.id: codes[e.label] for e in self.entries if e.label is not None}
        self.epochs, self.epoch_steps = s.epochs, -(-len(self.entries) // s.batch_size)
        encoder = new_encoder(s.encoder, seed=s.seed)
        if weights is not None:
            load_weights(encoder, weights, where=s.init)
        # Channels last is the faster layout on CPUs too.
        encoder = encoder.to(compute.device).to(memory_format=torch.channels_last_3d)
        self.encoder = self.network = encoder
        self.optimiser = make_optimiser(encoder, s)
        self.loader = SampleLoader(
            readers,
            s,
            clips=self.clips_per_sample,
            augment_on_device=compute.augment_on_device,
        )

    @classmethod
    @abstractmethod
    def first_samples(
        cls, lengths: Mapping[str, int], settings: Any, *, epoch: int
    ) -> list[list[Sample]]:
        """Batches as they may be in an epoch, before any work is done: to measure time with."""

    @classmethod
    def embedded_clips(cls, settings: Any, *, epoch: int, videos: int) -> int:
        """Clips that are embedded from an epoch on, between epochs; of `videos`, tested or not."""
        return 0

    @classmethod
    def check(cls, entries: Sequence[Entry], settings: Any, *, where: object) -> None:
        """Refuse videos on which these settings cannot be trained.

        Raises:
            StoreError, LabelsMissing: they cannot.
        """

    def notes(self) -> list[str]:
        """What a user should know before the first step, a line each."""
        return []

    @cached_property
    def forward(self) -> Forward:
        """The encoder's forward, made when needed: in several processes it waits for all."""
        return make_forward(self.encoder, self.compute, self.settings.precision, ranks=self.ranks)

    def project(self, clips: Tensor, samples: int) -> tuple[Tensor, ...]:
        """Projections of all clips in one forward, at every process those of the whole batch.

        Args:
            clips: `(V, b, T, size, size, 3)` uint8, this process's share.
            samples: B of the whole batch.

        Returns:
            V tensors `(B, 128)` with gradients.
        """
        with self.profile.phase("forward"):
            shares = self.forward(clips.flatten(0, 1)).chunk(len(clips))
            return self.ranks.whole(shares, samples)

    def learning_rate(self, epoch: int, step: int) -> float:
        """The rate of a step, by the schedule of the settings."""
        return learning_rate(step, self.epochs * self.epoch_steps, settings=self.settings)

    def end_epoch(
        self,
        plan: Sequence[Sequence[Any]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """The epoch's figures; the note of a step that failed before is removed."""
        if self.ranks.first:
            (self.run.path / FAILED_STEP).unlink(missing_ok=True)
        return self.figures(plan, sums)

    @abstractmethod
    def figures(self, plan: Sequence[Sequence[Any]], sums: Mapping[str, float]) -> dict[str, Any]:
        """What the log says of an epoch, from its batches and the sums over its steps."""

    def diverged(
        self, what: str, batch: Sequence[Sample], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """The error of a value that is not finite; the step's clips are noted in the run."""
        return not_finite(self.run, what, batch, epoch=epoch, step=step, rate=rate)

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """The settings of the run, by name."""
        return self.settings.as_dict()

    def has_settings(self, found: Any) -> bool:
        """Whether settings read from a checkpoint are the run's; older ones lack later settings."""
        try:
            return isinstance(found, dict) and super().has_settings(with_defaults(found))
        except SettingsError:
            return False

    @property
    def lower_memory(self) -> str:
        """What to do where the GPU's memory does not suffice."""
        recompute = "" if self.compute.recompute else "run the same command with --recompute, or "
        batch = self.settings.batch_size
        return (
            f"batch size {batch} is too large: {recompute}start a run with a smaller --batch-size"
        )
