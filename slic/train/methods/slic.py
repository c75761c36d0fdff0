"""SLIC: self-supervised learning with iterative clustering (Khorasgani et al., CVPR 2022).

Sections are those of the paper. The encoder learns from triplets of clips: an anchor, a positive
from its cluster of similar videos, and a second view of the anchor's own frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slic.cache import Entry
from slic.clips.seeding import seeded
from slic.engine.checkpoint import is_count
from slic.engine.profile import CLUSTERING
from slic.engine.task import Record, Sums
from slic.train.losses import (
    all_pairs_triplet_loss,
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)
from slic.train.methods.base import Method
from slic.train.negatives import (
    BatchLabels,
    batch_labels,
    candidates,
    count_false_negatives,
    select_negatives,
)
from slic.train.recluster import check_clusters, cluster_videos, clusterings_left, is_due
from slic.train.sampling import VideoTriplet, false_positive_rate, plan_epoch
from slic.train.slic_settings import CLUSTERINGS, SlicSettings

Views = tuple[Tensor, Tensor, Tensor]  # embeddings (B, D) of anchors, positives and second views


class SLIC(Method):
    """Train on triplets of clips, sampled by pseudo-labels that are updated every few epochs."""

    Settings = SlicSettings
    clips_per_sample = 3
    clusters_videos = True
    settings: SlicSettings
    clusters: dict[str, int] | None = None  # pseudo-label by video id
    clustered_at = -1  # the epoch before which they were made

    # --- 3.1: pseudo-labels ------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> Record | None:
        """Cluster the training videos every `cluster_every` epochs, counted from the warm-up."""
        due = is_due(self.settings, epoch) or not self.clusters
        return self.cluster(epoch) if due else None

    def cluster(self, epoch: int) -> Record | None:
        """Embed and cluster the training videos, unless that was done before this epoch already."""
        if self.clustered_at == epoch:
            return None
        with self.profile.phase(CLUSTERING):
            clustering = cluster_videos(
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
        for line in clustering.messages(self.run.path):
            self.say(line)
        self.clusters, self.clustered_at = clustering.pseudo_labels, epoch
        return "clustering", clustering.record

    def finish(self, epoch: int) -> Record | None:
        """Cluster once more, to record the quality of the final embeddings."""
        return self.cluster(epoch)

    # --- 3.2: samples ------------------------------------------------------------------------

    def plan(self, epoch: int) -> list[list[VideoTriplet]]:  # type: ignore[override]
        """Make every video the anchor of one sample, with a positive from its cluster.

        Before the first clustering, each video is a cluster of its own.
        """
        clusters = self.clusters or {video: i for i, video in enumerate(self.lengths)}
        return plan_epoch(self.lengths, clusters, settings=self.settings, epoch=epoch)

    # --- 3.3: losses -------------------------------------------------------------------------

    def loss(
        self, clips: Tensor, batch: Sequence[Any], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """Compute the instance loss of the triplets plus the temporal discrimination loss."""
        assert self.clusters is not None
        anchor, positive, second = self.project(clips, len(batch))
        labels = batch_labels(batch, self.clusters, self.truth)
        seed = seeded(self.settings.seed, epoch, "negatives", step).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        with self.profile.phase("selection and loss"):
            return batch_loss(
                (anchor, positive, second), labels, settings=self.settings, generator=generator
            )

    # --- figures, checkpoint, checks ---------------------------------------------------------

    def figures(
        self, plan: Sequence[Sequence[VideoTriplet]], sums: Mapping[str, float]
    ) -> dict[str, Any]:
        """Return the mean losses of an epoch, and its rates of false positives and negatives.

        A positive or negative is false if its true label says so; a rate is None if labels are
        unknown. Labels have no effect on training.
        """
        samples = sum(map(len, plan))
        losses = ("loss", "instance_loss", "temporal_loss")
        means = {name: sums[name] / samples for name in losses if name in sums}
        counts = {name: int(sums[name]) for name in ("skipped", "fallback") if name in sums}
        negatives = sums.get("negatives")
        return {
            **means,
            **counts,
            "false_positive_rate": false_positive_rate(plan, self.truth),
            "false_negative_rate": sums["false_negatives"] / negatives if negatives else None,
            "samples": samples,
        }

    def notes(self) -> list[str]:
        """Say from which epoch on clusters are used."""
        s = self.settings
        if s.cluster not in CLUSTERINGS or not s.warmup_epochs:
            return []
        never = ": not in this run" if s.warmup_epochs >= s.epochs else ""
        return [f"clusters are used from epoch {s.warmup_epochs} on (warmup_epochs){never}"]

    def clips_to_embed(self, epoch: int) -> int:
        """Return one clip of each video for every clustering from `epoch` on."""
        return clusterings_left(self.settings, epoch) * (len(self.entries) + len(self.tested))

    def state(self) -> dict[str, Any]:
        """Return the pseudo-labels in use, and the epoch before which they were made."""
        return {"clusters": self.clusters, "clustered_at": self.clustered_at}

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore the pseudo-labels, which must be those of the run's videos."""
        if state.keys() != {"clusters", "clustered_at"}:
            raise ValueError("no pseudo-labels")
        clusters, clustered_at = state["clusters"], state["clustered_at"]
        if not is_count(clustered_at, least=-1) or clustered_at > self.epochs:
            raise ValueError("its clusters belong to an impossible epoch")
        if clusters is not None:
            if not isinstance(clusters, dict) or clusters.keys() != set(self.lengths):
                raise ValueError("its clusters do not belong to the run's videos")
            if not all(map(is_count, clusters.values())):
                raise ValueError("its clusters are not numbers")
        self.clusters, self.clustered_at = clusters, clustered_at

    @classmethod
    def check(cls, entries: Sequence[Entry], settings: SlicSettings, *, where: object) -> None:
        """Refuse fewer videos than clusters, and missing labels if they are trained with."""
        check_clusters(entries, settings, where=where)


def batch_loss(
    views: Views, labels: BatchLabels, *, settings: SlicSettings, generator: torch.Generator
) -> tuple[Tensor, Sums]:
    """Compute the loss of one batch (paper, section 3.3), and sums for the log.

    Args:
        views: embeddings of anchors, positives and second views, `(B, D)` each.
        labels: labels of the batch.
        settings: settings of the run.
        generator: CPU generator for the choice of negatives.

    Returns:
        The scalar loss, and float64 scalars on the device by name, without waiting for it.
    """
    anchor, positive, second = views
    if settings.objective == "infonce":
        loss, sums = _infonce(views, labels, settings)
    else:
        triplets = _all_pairs if settings.pairs == "all" else _one_pair
        instance, sums = triplets(anchor, positive, labels, settings.margin, generator)
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
    """Compute the paper's instance loss: each anchor with its one positive and one negative."""
    chosen = select_negatives(anchor, positive, labels.cluster, margin=margin, generator=draws)
    negative = candidates(anchor, positive)[chosen.index]
    loss = instance_triplet_loss(anchor, positive, negative, margin=margin, valid=chosen.valid)
    truth = labels.both(anchor.device)
    false = count_false_negatives(truth[: len(anchor)], truth[chosen.index], valid=chosen.valid)
    return loss, false | {"skipped": (~chosen.valid).sum(), "fallback": chosen.fallback.sum()}


def _all_pairs(
    anchor: Tensor, positive: Tensor, labels: BatchLabels, margin: float, draws: torch.Generator
) -> tuple[Tensor, Sums]:
    """Compute the instance loss of all pairs of a cluster (not in the paper)."""
    entries, codes = candidates(anchor, positive), labels.cluster.repeat(2)
    drawn = all_pairs_triplet_loss(entries, codes, margin=margin, generator=draws)
    truth = labels.both(anchor.device)
    false = count_false_negatives(truth[:, None], truth[drawn.negative], valid=drawn.valid)
    skipped = (drawn.pairs & ~drawn.valid).sum()
    return drawn.loss, false | {"skipped": skipped, "fallback": drawn.fallback.sum()}


def _infonce(views: Views, labels: BatchLabels, settings: SlicSettings) -> tuple[Tensor, Sums]:
    """Compute InfoNCE over the same samples (not in the paper)."""
    anchor, positive, second = views
    # Without the temporal loss, the second view plays no part.
    third = second if settings.temporal_weight > 0 else None
    loss = pseudo_label_infonce(
        anchor, positive, third, labels.cluster, temperature=settings.temperature
    )
    # Every entry of another cluster is a negative: count pairs of an anchor and such an entry.
    pairs = labels.cluster[:, None] != labels.cluster.repeat(2)
    truth = torch.cat((labels.anchor, labels.positive))
    false = count_false_negatives(labels.anchor[:, None], truth, valid=pairs)
    return loss, false | {"skipped": (~pairs.any(1)).sum()}
