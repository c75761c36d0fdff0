"""SLIC: self-supervised learning with iterative clustering (Khorasgani et al., CVPR 2022)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slic.cache import Entry
from slic.clips.samples import Sample
from slic.clips.seeding import seeded
from slic.engine.checkpoint import is_count
from slic.engine.profile import CLUSTERING
from slic.engine.task import Record, Sums
from slic.train.all_pairs import all_pairs_triplet_loss
from slic.train.figures import BatchLabels, batch_labels, epoch_record, triplet_counts
from slic.train.losses import (
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)
from slic.train.methods.base import Method
from slic.train.negatives import select_negatives
from slic.train.recluster import (
    Clustering,
    check_clusters,
    cluster_videos,
    clusterings_left,
    is_due,
)
from slic.train.sampling import VideoTriplet, plan_epoch
from slic.train.slic_settings import CLUSTERINGS, SlicSettings

Views = tuple[Tensor, Tensor, Tensor]  # anchor, positive and second view, (B, D) each


class SLIC(Method):
    """Triplets of clips, sampled by pseudo-labels that are clustered anew every few epochs."""

    Settings = SlicSettings
    clips_per_sample = 3
    clusters_videos = True
    settings: SlicSettings
    clusters: dict[str, int] | None = None  # {video id: pseudo-label}
    clustered_at = -1

    # --- 3.1: pseudo-labels ------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> Record | None:
        """Cluster the training videos every `cluster_every` epochs, after the warm-up."""
        due = is_due(self.settings, epoch) or not self.clusters
        return self.recluster(epoch) if due else None

    def recluster(self, epoch: int) -> Record | None:
        """Embed and cluster the training videos, unless this epoch has done so already."""
        if self.clustered_at == epoch:
            return None
        with self.profile.phase(CLUSTERING):
            found: Clustering = cluster_videos(
                self.encoder,
                self.readers,
                self.entries,
                run=self.run,
                settings=self.settings,
                epoch=epoch,
                device=self.compute.device,
                test=self.tested,
                ranks=self.ranks,
            )
        for line in found.lines(self.run.path):
            self.say(line)
        self.clusters, self.clustered_at = found.pseudo_labels, epoch
        return "clustering", found.record

    def finish(self, epoch: int) -> Record | None:
        """Cluster once more, for the record."""
        return self.recluster(epoch)

    # --- 3.2: samples ------------------------------------------------------------------------

    def plan(self, epoch: int) -> list[list[VideoTriplet]]:  # type: ignore[override]
        """Every video is an anchor once; its positive is of its own cluster."""
        assert self.clusters is not None
        return plan_epoch(self.lengths, self.clusters, settings=self.settings, epoch=epoch)

    # --- 3.3: losses -------------------------------------------------------------------------

    def loss(
        self, clips: Tensor, batch: Sequence[Any], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """The instance loss of each triplet, and the temporal discrimination loss."""
        assert self.clusters is not None
        anchor, positive, second = self.project(clips, len(batch))
        labels = batch_labels(batch, self.clusters, self.truth)
        draws = seeded(self.settings.seed, epoch, "negatives", step).integers(2**62)
        generator = torch.Generator().manual_seed(int(draws))
        with self.profile.phase("selection and loss"):
            return batch_loss(
                (anchor, positive, second), labels, settings=self.settings, generator=generator
            )

    # --- for the record, the checkpoint and the estimate -------------------------------------

    def figures(
        self, plan: Sequence[Sequence[VideoTriplet]], sums: Mapping[str, float]
    ) -> dict[str, Any]:
        """Mean losses, and the rates of false positives and negatives."""
        return epoch_record(sums, plan, self.truth)

    def notes(self) -> list[str]:
        """When clusters are used at all."""
        s = self.settings
        if s.cluster not in CLUSTERINGS or not s.warmup_epochs:
            return []
        never = ": not in this run" if s.warmup_epochs >= s.epochs else ""
        return [f"clusters are used from epoch {s.warmup_epochs} on (warmup_epochs){never}"]

    def state(self) -> dict[str, Any]:
        """The pseudo-labels in use, and the epoch that they were made before."""
        return {"clusters": self.clusters, "clustered_at": self.clustered_at}

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore the pseudo-labels, which must be those of the run's videos."""
        if state.keys() != {"clusters", "clustered_at"}:
            raise ValueError("no pseudo-labels")
        clusters, at = state["clusters"], state["clustered_at"]
        if not is_count(at, least=-1) or at > self.epochs:
            raise ValueError("its clusters are of no epoch of its settings")
        if clusters is not None:
            if not isinstance(clusters, dict) or clusters.keys() != set(self.lengths):
                raise ValueError("clusters of other videos than its run's")
            if not all(is_count(cluster) for cluster in clusters.values()):
                raise ValueError("clusters that are no numbers")
        self.clusters, self.clustered_at = clusters, at

    @classmethod
    def first_samples(
        cls, lengths: Mapping[str, int], settings: SlicSettings, *, epoch: int
    ) -> list[list[Sample]]:
        """Samples of an epoch in which each video is a cluster of its own."""
        alone = {video: number for number, video in enumerate(lengths)}
        return [list(b) for b in plan_epoch(lengths, alone, settings=settings, epoch=epoch)]

    @classmethod
    def embedded_clips(cls, settings: SlicSettings, *, epoch: int, videos: int) -> int:
        """One clip of each video at every clustering."""
        return clusterings_left(settings, epoch) * videos

    @classmethod
    def check(cls, entries: Sequence[Entry], settings: SlicSettings, *, where: object) -> None:
        """Refuse fewer videos than clusters, and missing labels where they are trained with."""
        check_clusters(entries, settings, where=where)


def batch_loss(
    views: Views, labels: BatchLabels, *, settings: SlicSettings, generator: torch.Generator
) -> tuple[Tensor, Sums]:
    """Loss of one batch (paper, section 3.3), and sums for the epoch's record.

    Args:
        views: anchors, positives and second views, `(B, D)` each.
        labels: of the batch.
        settings: of the run.
        generator: on the CPU, for the choice of negatives.

    Returns:
        The scalar loss, and float64 scalars on the device by name, without waiting for it.
    """
    anchor, positive, second = views
    if settings.objective == "infonce":
        loss, sums = _infonce(views, labels, settings)
    else:
        pairs = _all_pairs if settings.pairs == "all" else _one_pair
        instance, sums = pairs(anchor, positive, labels, settings.margin, generator)
        temporal = temporal_discrimination_loss(
            anchor, second, positive, margin=settings.temporal_margin
        )
        loss = instance + settings.temporal_weight * temporal
        sums |= {
            "instance_loss": instance.detach() * len(anchor),
            "temporal_loss": temporal.detach() * len(anchor),
        }
    sums["loss"] = loss.detach() * len(anchor)
    device = anchor.device
    return loss, {k: v.double().to(device, non_blocking=True) for k, v in sums.items()}


def _one_pair(
    anchor: Tensor, positive: Tensor, labels: BatchLabels, margin: float, draws: torch.Generator
) -> tuple[Tensor, Sums]:
    """The instance loss of each anchor with its one positive, and counts."""
    chosen = select_negatives(anchor, positive, labels.cluster, margin=margin, generator=draws)
    negative = torch.cat((anchor, positive))[chosen.index]
    loss = instance_triplet_loss(anchor, positive, negative, margin=margin, valid=chosen.valid)
    truth = labels.both(anchor.device)
    mine, theirs = truth[: len(anchor)], truth[chosen.index]
    return loss, triplet_counts(mine, theirs, valid=chosen.valid) | {
        "skipped": (~chosen.valid).sum(),
        "fallback": chosen.fallback.sum(),
    }


def _all_pairs(
    anchor: Tensor, positive: Tensor, labels: BatchLabels, margin: float, draws: torch.Generator
) -> tuple[Tensor, Sums]:
    """The instance loss of all pairs of a cluster, and counts of these."""
    entries, codes = torch.cat((anchor, positive)), labels.cluster.repeat(2)
    found = all_pairs_triplet_loss(entries, codes, margin=margin, generator=draws)
    truth = labels.both(anchor.device)
    return found.loss, triplet_counts(truth[:, None], truth[found.negative], valid=found.valid) | {
        "skipped": (found.pairs & ~found.valid).sum(),
        "fallback": found.fallback.sum(),
    }


def _infonce(views: Views, labels: BatchLabels, settings: SlicSettings) -> tuple[Tensor, Sums]:
    """InfoNCE over the same samples (not in the paper), and counts."""
    anchor, positive, second = views
    # Without the second view's own loss, the second view has no part.
    third = second if settings.temporal_weight > 0 else None
    loss = pseudo_label_infonce(
        anchor, positive, third, labels.cluster, temperature=settings.temperature
    )
    # Every entry of another cluster is a negative: count the pairs of anchor and other sample.
    pairs = labels.cluster[:, None] != labels.cluster.repeat(2)
    truth = torch.cat((labels.anchor, labels.positive))
    return loss, triplet_counts(labels.anchor[:, None], truth, valid=pairs) | {
        "skipped": (~pairs.any(1)).sum()
    }
