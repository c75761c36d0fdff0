"""What all pretraining methods share: the encoder, its optimiser, and the training videos."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slic.cache import Entry
from slic.clips.reading import ReaderPool
from slic.clips.samples import Sample
from slic.config import Settings, with_defaults
from slic.encoders.encoder import new_encoder
from slic.encoders.weights import Weights, load_weights
from slic.engine.distributed import SINGLE, Ranks
from slic.engine.divergence import FAILED_STEP, not_finite
from slic.engine.forward import ComputeOptions, Forward, make_forward
from slic.engine.loader import SampleLoader
from slic.engine.profile import Profile
from slic.engine.task import Task
from slic.errors import SettingsError, WorkError
from slic.runs import Run
from slic.train.training_set import tested_entries, training_entries


class Method(Task):
    """A way to pretrain an encoder on the training videos of a store.

    A subclass defines what is specific to it: its settings, the clips of a sample, the loss, and
    the work between epochs. If it has more networks than `encoder`, it keeps them in its `state`.

    Attributes:
        Settings: class of its settings.
        clips_per_sample: V, number of clips of each sample.
        clusters_videos: whether it logs clusterings, with the recall of their embeddings.
        settings: settings of the run.
        entries: training videos.
        lengths: number of frames of the training videos by id.
        tested: labelled test videos, whose recall is recorded and never used.
        truth: code of the label by video id, for videos that have one; only for figures.

    Args:
        run: run folder and settings.
        readers: reader processes of the run's store.
        compute: device, and how to compute.
        weights: weights to start from; by default they are random.
        ranks: processes that train together.
        profile: measures the time of each part of a step; by default nothing is measured.
        say: called with each line for the user.

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
        weights: Weights | None = None,
        ranks: Ranks = SINGLE,
        profile: Profile | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.run, self.readers, self.compute = run, readers, compute
        self.ranks, self.say = ranks, say
        self.profile = profile or Profile(compute.device, enabled=False)
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
        # Channels last is the faster layout, on CPUs too.
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
    def check(cls, entries: Sequence[Entry], settings: Any, *, where: object) -> None:
        """Refuse videos that cannot be trained on with these settings.

        Raises:
            StoreError, LabelsMissing: too few videos, or videos without labels.
        """

    def notes(self) -> list[str]:
        """Return lines that a user should see before the first step."""
        return []

    def clips_to_embed(self, epoch: int) -> int:
        """Return the number of clips to embed between epochs, from `epoch` on; for estimates."""
        return 0

    @cached_property
    def forward(self) -> Forward:
        """The encoder's forward, made when first used: several processes must make it together."""
        return make_forward(self.encoder, self.compute, self.settings.precision, ranks=self.ranks)

    def project(self, clips: Tensor, samples: int) -> tuple[Tensor, ...]:
        """Compute the projections of all clips in one forward; gather them from all ranks.

        Args:
            clips: `(V, b, T, size, size, 3)` uint8, this rank's share of the batch.
            samples: B, number of samples of the whole batch.

        Returns:
            V tensors `(B, 128)` with gradients.
        """
        with self.profile.phase("forward"):
            views = self.forward(clips.flatten(0, 1)).chunk(len(clips))
            return views if self.ranks.size == 1 else self.ranks.gather_rows(views, samples)

    def learning_rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step, by the schedule of the settings."""
        return learning_rate(step, self.epochs * self.epoch_steps, settings=self.settings)

    def end_epoch(
        self,
        plan: Sequence[Sequence[Any]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """Return the epoch's figures; remove the note of an earlier failed step."""
        if self.ranks.first:
            (self.run.path / FAILED_STEP).unlink(missing_ok=True)
        return self.figures(plan, sums)

    @abstractmethod
    def figures(self, plan: Sequence[Sequence[Any]], sums: Mapping[str, float]) -> dict[str, Any]:
        """Return an epoch's figures for the log, from its batches and the sums over its steps."""

    def diverged(
        self, what: str, batch: Sequence[Sample], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """Write the clips of the failed step to the run folder, and return the error to raise."""
        return not_finite(self.run, what, batch, epoch=epoch, step=step, rate=rate)

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """The settings of the run, by name."""
        return self.settings.as_dict()

    def has_settings(self, found: Any) -> bool:
        """Return whether a checkpoint's settings are the run's; older ones lack later settings."""
        try:
            return isinstance(found, dict) and super().has_settings(with_defaults(found))
        except SettingsError:
            return False

    @property
    def lower_memory(self) -> str:
        """Advice for a GPU that is out of memory."""
        recompute = "" if self.compute.recompute else "run the same command with --recompute, or "
        batch = self.settings.batch_size
        return (
            f"batch size {batch} is too large: {recompute}start a run with a smaller --batch-size"
        )


def make_optimiser(encoder: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Make SGD, as in the paper (section 4.1), or Adam with decoupled weight decay."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            encoder.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        encoder.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )


def learning_rate(step: int, steps: int, *, settings: Settings) -> float:
    """Return the learning rate of a step, from 0, out of `steps`.

    The schedule is constant, half a cosine from `lr` to 0, or a drop to a tenth every
    `drop_every` epochs. In the first `lr_warmup_epochs` the rate rises linearly from 0.
    """
    s, rate = settings, settings.lr
    warmup = steps * s.lr_warmup_epochs / s.epochs
    if step + 1 < warmup:
        rate *= (step + 1) / warmup
    if s.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    if s.schedule == "step":
        rate *= 0.1 ** (step * s.epochs // (steps * s.drop_every))
    return rate
