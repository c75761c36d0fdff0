"""Between epochs: embed the training videos, cluster them, and see how good that is."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slic.cache import Entry
from slic.cache.clusterings import record_clusters
from slic.clips.reading import ReaderPool
from slic.embed.embedding import CacheName, FloatRows, Protocol, write_cache
from slic.encoders.encoder import Encoder, weights_digest
from slic.engine.distributed import ALONE, OtherFailed, Ranks
from slic.engine.synchronised import embed_shares, shown
from slic.errors import DamagedChunk, LabelsMissing, StoreError
from slic.metrics import cluster_agreement, recall_at_k
from slic.neighbours.exact import nearest
from slic.runs import Run
from slic.runtime.text import counted
from slic.train.clustering import finch, kmeans, label_codes, singleton_labels
from slic.train.collapse import check_embeddings, has_collapsed, mean_distance
from slic.train.slic_settings import CLUSTERINGS, SlicSettings

RECALL_AT = (1, 5)
QUERY_SHARE = 4


@dataclass(frozen=True)
class Clustering:
    """What one clustering gave.

    Attributes:
        clusters: `{video id: cluster}`.
        pseudo_labels: `{video id: label}` to train with.
        collapsed: whether all videos are embedded all but alike.
        record: its line in metrics.jsonl.
    """

    clusters: dict[str, int]
    pseudo_labels: dict[str, int]
    collapsed: bool
    record: dict[str, Any]

    def lines(self, run: Path) -> Iterator[str]:
        """What it gave, for people."""
        yield clustering_line(self.record)
        if self.collapsed:
            yield (
                f"{run}: the embedding has collapsed: at epoch {self.record['epoch']} the mean"
                f" cosine distance of the training videos is {self.record['distance']:.1e}; a"
                " smaller --lr, or another --objective, may help"
            )


def is_query(entry: Entry) -> bool:
    """Whether a training video queries the others for the recall that training reports.

    About a quarter of the groups (or videos without one), by digest of label and name. They
    are trained on like the others (training sees no label), but are no part of the gallery.
    """
    name = f"{entry.label}\x1f{entry.group or entry.id}"
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] % QUERY_SHARE == 0


def training_recall(entries: Sequence[Entry], embeddings: FloatRows) -> dict[str, float] | None:
    """Recall at 1 and 5 of held-out groups of the training split among its other groups.

    Args:
        entries: N training videos.
        embeddings: `(N, D)`.

    Returns:
        `{"1": fraction, "5": fraction}`; None without labels, queries or gallery.
    """
    labelled = np.array([entry.label is not None for entry in entries])
    asked = np.array([is_query(entry) for entry in entries])
    queries, gallery = np.flatnonzero(labelled & asked), np.flatnonzero(labelled & ~asked)
    if not len(queries) or not len(gallery):
        return None
    labels = _labels(entries)
    asked, among = embeddings[queries], embeddings[gallery]
    return _recall(asked, labels[queries], among, labels[gallery])


def _recall(
    asked: FloatRows, asked_labels: np.ndarray, among: FloatRows, labels: np.ndarray
) -> dict[str, float]:
    found = nearest(asked, among, k=max(RECALL_AT))[1]
    recall = recall_at_k(asked_labels, labels[found], RECALL_AT)
    return {str(k): value for k, value in recall.items()}


def cluster_videos(
    encoder: Encoder,
    readers: ReaderPool,
    entries: Sequence[Entry],
    *,
    run: Run,
    settings: SlicSettings,
    epoch: int,
    device: torch.device,
    test: Sequence[Entry] = (),
    ranks: Ranks = ALONE,
) -> Clustering:
    """Embed the centre clip of every training video, cache it, and cluster (paper, section 3.1).

    The embedding cache of the clustering before is removed once the new one stands. The recall
    of `test` videos is recorded, for figures alone: nothing is chosen by it. Several processes
    embed a share each; the first clusters, and all receive what it found.

    Raises:
        DamagedChunk: stored bytes of a training video are damaged.
        WorkError: embeddings are not finite, or another process has failed.
    """
    s = settings
    protocol = Protocol(1, s.frames, s.stride, s.size)
    how: Any = {"protocol": protocol, "device": device, "precision": s.precision, "ranks": ranks}
    what = "cluster" if ranks.alone else f"cluster, 1 of {ranks.size} shares"
    with shown(ranks, len(ranks.share(entries)), what) as advance:
        embedded = embed_shares(encoder, readers, entries, advance=advance, **how)
    tested = None
    with contextlib.suppress(DamagedChunk, OtherFailed):  # what is only recorded stops no training
        tested = embed_shares(encoder, readers, test, **how) if test else None

    def found() -> Clustering:
        assert embedded is not None
        backbone, projection = embedded
        check_embeddings([entry.id for entry in entries], projection, where=run.path)
        checkpoint = f"e{epoch:05d}.{weights_digest(encoder.state_dict())}"
        name = CacheName(readers.store.name, run.store_digest, checkpoint, protocol, training=True)
        _replace_cache(run, name, entries, backbone=backbone, projection=projection)
        compared = backbone if s.retrieval_feature == "backbone" else projection
        recalls = {
            "recall": training_recall(entries, compared),
            "test_recall": _test_recall(tested, compared, entries, test, settings=s),
        }
        return _clustering(entries, projection, recalls, run=run, settings=s, epoch=epoch)

    return ranks.decided(found)


def _replace_cache(
    run: Run,
    name: CacheName,
    entries: Sequence[Entry],
    *,
    backbone: FloatRows,
    projection: FloatRows,
) -> None:
    write_cache(run.embeddings, name, entries, backbone=backbone, projection=projection)
    for old in run.embeddings.glob("*-train.h5"):
        if old.name != name.file:
            old.unlink()


def _test_recall(
    tested: tuple[FloatRows, FloatRows] | None,
    among: FloatRows,
    entries: Sequence[Entry],
    test: Sequence[Entry],
    *,
    settings: SlicSettings,
) -> dict[str, float] | None:
    if tested is None:
        return None
    backbone, projection = tested
    asked = backbone if settings.retrieval_feature == "backbone" else projection
    return _recall(asked, _labels(test), among, _labels(entries))


def _clustering(
    entries: Sequence[Entry],
    projection: FloatRows,
    recalls: Mapping[str, Any],
    *,
    run: Run,
    settings: SlicSettings,
    epoch: int,
) -> Clustering:
    """Cluster, record the clusters, and say how good they are."""
    s, distance = settings, mean_distance(projection)
    labels = _clustered(projection, s)
    clusters = dict(zip([entry.id for entry in entries], labels.tolist(), strict=True))
    record_clusters(run.path / "clusters.h5", epoch, clusters)
    nmi, ami = cluster_agreement(_labels(entries), labels)
    record = {
        "epoch": epoch,
        "clusters": len(set(clusters.values())),
        "nmi": nmi,
        "ami": ami,
        "distance": distance,
        **recalls,
        "in_use": s.cluster in CLUSTERINGS and epoch >= s.warmup_epochs,
    }
    codes = pseudo_labels(entries, clusters, settings=s, epoch=epoch)
    return Clustering(clusters, codes, has_collapsed(distance), record)


def clustering_line(record: Mapping[str, Any]) -> str:
    """What a clustering gave, for people: `epoch 5: 146 clusters, NMI 0.585, recall at 1 0.221`."""
    told = [f"epoch {record['epoch']}: {counted(record['clusters'], 'cluster')}"]
    told += [f"NMI {record['nmi']:.3f}"] if record["nmi"] is not None else []
    told += [f"recall at 1 {record['recall']['1']:.3f}"] if record["recall"] else []
    return ", ".join(told)


def is_due(settings: SlicSettings, epoch: int) -> bool:
    """Whether the epoch of this number begins with a clustering."""
    return (epoch - settings.warmup_epochs) % settings.cluster_every == 0


def clusterings_left(settings: SlicSettings, epoch: int) -> int:
    """Clusterings from an epoch on, with the one at the end of the run."""
    return sum(is_due(settings, e) for e in range(epoch, settings.epochs)) + 1


def _clustered(projection: FloatRows, settings: SlicSettings) -> np.ndarray:
    """Clusters of the embeddings; by FINCH where the run itself uses none, for the record."""
    if settings.cluster == "kmeans":
        return kmeans(projection, settings.kmeans_clusters, seed=settings.seed)
    return finch(projection, partition=settings.partition)


def pseudo_labels(
    entries: Sequence[Entry], clusters: Mapping[str, int], *, settings: SlicSettings, epoch: int
) -> dict[str, int]:
    """The labels to train with: the clusters', the true ones, or each video alone.

    Raises:
        LabelsMissing: true labels are asked for, and a training video has none.
    """
    ids = [entry.id for entry in entries]
    if settings.cluster == "labels":
        codes = label_codes([entry.label for entry in entries])
    elif settings.cluster in CLUSTERINGS and epoch >= settings.warmup_epochs:
        codes = np.array([clusters[video] for video in ids])
    else:
        codes = singleton_labels(len(ids))
    return dict(zip(ids, codes.tolist(), strict=True))


def check_clusters(entries: Sequence[Entry], settings: SlicSettings, *, where: object) -> None:
    """Refuse fewer videos than clusters, and videos without labels where these are trained with.

    Raises:
        StoreError: k-means is to make more clusters than there are training videos.
        LabelsMissing: true labels are asked for, and a training video has none.
    """
    if settings.cluster == "kmeans" and settings.kmeans_clusters > len(entries):
        raise StoreError(
            f"{where}: {len(entries)} training videos cannot make"
            f" {settings.kmeans_clusters} clusters; give --cluster kmeans:N with fewer"
        )
    if settings.cluster == "labels":
        try:
            label_codes([entry.label for entry in entries])
        except LabelsMissing as error:
            raise LabelsMissing(f"{where}: {error}") from None


def _labels(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([entry.label or "" for entry in entries])
