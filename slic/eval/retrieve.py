"""`slic eval retrieve`: recall at k of test videos among training videos (paper, section 4.2)."""

from collections.abc import Callable, Sequence
from typing import Any

from slic.config import Feature
from slic.errors import InputError
from slic.eval.cached import Parts, cached_embeddings, evaluation_protocol, split_parts
from slic.metrics import per_class_recall, recall_at_k
from slic.neighbours import nearest
from slic.runs import Run


def parse_ks(text: str) -> list[int]:
    """`1,5,10` as numbers, in order and once each.

    Raises:
        InputError: not whole numbers above 0.
    """
    try:
        ks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--k {text}: give whole numbers with commas, such as 1,5,10") from None
    if ks[0] < 1:
        raise InputError(f"--k {text}: each must be at least 1")
    return ks


def recall_of(parts: Parts, ks: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Recall at each k, and recall at 1 of each class, as fractions of the queries."""
    found = nearest(parts.test, parts.train, k=max(ks))[1]
    labels = parts.train_labels[found]
    recall = recall_at_k(parts.test_labels, labels, ks)
    return {str(k): v for k, v in recall.items()}, per_class_recall(parts.test_labels, labels, 1)


def retrieve(
    run: Run,
    *,
    ks: Sequence[int] = (1, 5, 10),
    store: str | None = None,
    split: int | None = None,
    clips: int | None = None,
    feature: Feature | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Retrieve each test video's nearest training videos; a hit shares its label.

    Args:
        run: whose latest checkpoint.
        ks: how many neighbours count.
        store: another store than the run's: the transfer setting.
        split: number; the run's if None.
        clips: clips a video; the run's setting if None.
        feature: `backbone` or `projection`; the run's setting if None.
        device, workers: for embeddings that are not cached yet.
        say: takes lines meant for the user.

    Returns:
        run, store, split, queries, gallery, feature, clips, recall ({k: fraction}),
        per_class (recall at 1).

    Raises:
        InputError and its kinds: unusable input.
    """
    number = run.settings.split if split is None else split
    kind = feature or run.settings.retrieval_feature
    protocol = evaluation_protocol(run.settings, clips)
    cache, path = cached_embeddings(
        run, store=store, protocol=protocol, device=device, workers=workers, say=say
    )
    parts = split_parts(cache, split=number, feature=kind, where=path)
    recall, per_class = recall_of(parts, ks)
    return {
        "run": str(run.path),
        "store": str(path),
        "split": number,
        "queries": len(parts.test),
        "gallery": len(parts.train),
        "feature": kind,
        "clips": protocol.clips,
        "recall": recall,
        "per_class": per_class,
        "cache": str(cache.path),
    }
