"""Between epochs: embed the training videos, cluster them, and rate the clusters."""

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
from slic.embed.embedding import CacheName, FloatRows, Protocol, embed, write_cache
from slic.encoders.encoder import Encoder, weights_digest
from slic.engine.distributed import SINGLE, Ranks, first_progress
from slic.engine.divergence import name_some
from slic.errors import DamagedChunk, LabelsMissing, StoreError, WorkError
from slic.metrics import cluster_agreement, recall_at_k
from slic.neighbours.exact import nearest
from slic.runs import Run
from slic.runtime.text import counted
from slic.train.clustering import finch, kmeans, label_codes, singleton_labels
from slic.train.slic_settings import CLUSTERINGS, SlicSettings

RECALL_AT = (1, 5)
QUERY_SHARE = 4  # one in so many groups of training videos queries the others
COLLAPSED = 1e-3  # mean cosine distance; untrained encoders gave 3e-3 and more
Embeddings = tuple[FloatRows, FloatRows]  # backbone (N, D) and projection (N, 128)


@dataclass(frozen=True)
class Clustering:
    """Result of one clustering.

    Attributes:
        pseudo_labels: label to train with by video id.
        record: values of its line in metrics.jsonl.
    """

    pseudo_labels: dict[str, int]
    record: dict[str, Any]

    def messages(self, run: Path) -> Iterator[str]:
        """Yield lines for the user: the result, and a warning if the embedding has collapsed."""
        r = self.record
        parts = [f"epoch {r['epoch']}: {counted(r['clusters'], 'cluster')}"]
        parts += [f"NMI {r['nmi']:.3f}"] if r["nmi"] is not None else []
        parts += [f"recall at 1 {r['recall']['1']:.3f}"] if r["recall"] else []
        yield ", ".join(parts)
        if r["distance"] < COLLAPSED:
            yield (
                f"{run}: the embedding has collapsed: at epoch {r['epoch']} the mean cosine"
                f" distance of the training videos is {r['distance']:.1e}; a smaller --lr, or"
                " another --objective, may help"
            )


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
    ranks: Ranks = SINGLE,
) -> Clustering:
    """Embed the centre clip of every training video, cache it, and cluster (paper, section 3.1).

    The new embedding cache replaces that of the previous clustering. Each rank embeds a share of
    the videos; rank 0 clusters.

    Args:
        encoder: the same on all ranks.
        readers: reader processes of the run's store.
        entries: training videos.
        run: run folder.
        settings: settings of the run.
        epoch: number of the epoch that begins.
        device: device of the encoder.
        test: test videos whose recall is recorded; nothing is chosen by it.
        ranks: processes that train together.

    Raises:
        DamagedChunk: stored bytes of a training video are damaged.
        WorkError: embeddings are not finite.
    """
    s = settings
    protocol = Protocol(1, s.frames, s.stride, s.size)
    options: Any = {"protocol": protocol, "device": device, "precision": s.precision}
    what = "cluster" if ranks.is_single else f"cluster, 1 of {ranks.size} shares"
    share = ranks.share(entries)
    with first_progress(ranks, len(share), what) as advance:
        part = embed(encoder, readers, share, advance=advance, **options) if share else None
    embeddings = _joined(ranks.gather(part))
    part, share = None, ranks.share(test)
    with contextlib.suppress(DamagedChunk):  # only recorded: no reason to stop the training
        part = embed(encoder, readers, share, **options) if share else None
    parts = ranks.gather((part, len(share)))
    complete = all(part is not None or not count for part, count in parts)
    tested = _joined([part for part, _ in parts]) if complete else None

    def on_first() -> Clustering:
        assert embeddings is not None
        backbone, projection = embeddings
        _check_finite([entry.id for entry in entries], projection, where=run.path)
        checkpoint = f"e{epoch:05d}.{weights_digest(encoder.state_dict())}"
        name = CacheName(readers.store.name, run.store_digest, checkpoint, protocol, training=True)
        write_cache(run.embeddings, name, entries, backbone=backbone, projection=projection)
        for old in run.embeddings.glob("*-train.h5"):
            if old.name != name.file:
                old.unlink()
        feature = 0 if s.retrieval_feature == "backbone" else 1
        rows = embeddings[feature]
        recall = {
            "recall": training_recall(entries, rows),
            "test_recall": _recall(tested[feature], test, rows, entries) if tested else None,
        }
        return _cluster(entries, projection, recall, run=run, settings=s, epoch=epoch)

    return ranks.on_first(on_first)


def _joined(parts: Sequence[Embeddings | None]) -> Embeddings | None:
    """Concatenate the embeddings of all ranks; None on other ranks than 0, or without videos."""
    known = [part for part in parts if part is not None]
    if len(known) < 2:
        return known[0] if known else None
    return np.concatenate([b for b, _ in known]), np.concatenate([p for _, p in known])


def _check_finite(ids: Sequence[str], rows: FloatRows, *, where: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise WorkError(
            f"{where}: the embeddings of {len(bad)} of {len(ids)} videos are not finite"
            f" ({name_some(ids[i] for i in bad.tolist())}); start a run with a smaller --lr"
        )


def _cluster(
    entries: Sequence[Entry],
    projection: FloatRows,
    recall: Mapping[str, Any],
    *,
    run: Run,
    settings: SlicSettings,
    epoch: int,
) -> Clustering:
    """Cluster embeddings, write the clusters to clusters.h5, and compare them with true labels.

    A run that trains without clusters is clustered by FINCH, for the record.
    """
    s = settings
    if s.cluster == "kmeans":
        labels = kmeans(projection, s.kmeans_clusters, seed=s.seed)
    else:
        labels = finch(projection, partition=s.partition)
    clusters = dict(zip([entry.id for entry in entries], labels.tolist(), strict=True))
    record_clusters(run.path / "clusters.h5", epoch, clusters)
    nmi, ami = cluster_agreement(_labels(entries), labels)
    record = {
        "epoch": epoch,
        "clusters": len(set(clusters.values())),
        "nmi": nmi,
        "ami": ami,
        "distance": mean_distance(projection),
        **recall,
        "in_use": s.cluster in CLUSTERINGS and epoch >= s.warmup_epochs,
    }
    return Clustering(pseudo_labels(entries, clusters, settings=s, epoch=epoch), record)


def mean_distance(rows: FloatRows) -> float:
    """Return the mean cosine distance of all pairs among N >= 2 rows `(N, D)`: 0 to 2.

    It follows from the length of the sum of the unit rows, without looking at pairs; in float64,
    because a small difference of large numbers matters.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    units = rows / np.maximum(norms, np.finfo(np.float64).tiny)
    cosines = float((units.sum(axis=0) ** 2).sum() - (units**2).sum())
    return max(0.0, 1 - cosines / (len(rows) * (len(rows) - 1)))


def is_query(entry: Entry) -> bool:
    """Return whether a training video queries the others for the recall that training reports.

    About a quarter of the groups (or of the videos without one) do, by a digest of label and name.
    They are trained on like the others, but are not part of the gallery.
    """
    name = f"{entry.label}\x1f{entry.group or entry.id}"
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] % QUERY_SHARE == 0


def training_recall(entries: Sequence[Entry], embeddings: FloatRows) -> dict[str, float] | None:
    """Return recall at 1 and 5 of held-out groups of the training videos among its other groups.

    Args:
        entries: N training videos.
        embeddings: their embeddings, `(N, D)`.

    Returns:
        `{"1": fraction, "5": fraction}`; None without labels, queries or gallery.
    """
    labelled = [i for i, entry in enumerate(entries) if entry.label is not None]
    queries = [i for i in labelled if is_query(entries[i])]
    gallery = [i for i in labelled if not is_query(entries[i])]
    if not queries or not gallery:
        return None
    asked, among = ([entries[i] for i in rows] for rows in (queries, gallery))
    return _recall(embeddings[queries], asked, embeddings[gallery], among)


def _recall(
    queries: FloatRows, asked: Sequence[Entry], gallery: FloatRows, among: Sequence[Entry]
) -> dict[str, float]:
    neighbours = nearest(queries, gallery, k=max(RECALL_AT))[1]
    recall = recall_at_k(_labels(asked), _labels(among)[neighbours], RECALL_AT)
    return {str(k): value for k, value in recall.items()}


def _labels(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([entry.label or "" for entry in entries])


def is_due(settings: SlicSettings, epoch: int) -> bool:
    """Return whether the videos are clustered before this epoch."""
    return (epoch - settings.warmup_epochs) % settings.cluster_every == 0


def clusterings_left(settings: SlicSettings, epoch: int) -> int:
    """Return the number of clusterings from an epoch on, with the one at the end of the run."""
    return sum(is_due(settings, e) for e in range(epoch, settings.epochs)) + 1


def pseudo_labels(
    entries: Sequence[Entry], clusters: Mapping[str, int], *, settings: SlicSettings, epoch: int
) -> dict[str, int]:
    """Return the labels to train with: clusters, true labels, or a label for each video.

    Raises:
        LabelsMissing: true labels are required, and a training video has none.
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
    """Refuse fewer videos than clusters, and videos without labels if these are trained with.

    Raises:
        StoreError: k-means would make more clusters than there are training videos.
        LabelsMissing: true labels are required, and a training video has none.
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
