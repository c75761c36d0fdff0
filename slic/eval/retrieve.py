"""`slic eval retrieve`: recall at k of test videos among training videos (paper, section 4.2)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from slic.config import Feature
from slic.embed.cached import (
    Parts,
    cached_embeddings,
    check_feature,
    evaluation_protocol,
    say_seen,
    split_parts,
)
from slic.eval.outcome import about_run
from slic.metrics import per_class_recall, recall_at_k
from slic.neighbours.exact import nearest
from slic.runs import Run


def recall_of(parts: Parts, ks: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Compute recall at each k, and recall at 1 of each class, as fractions of the queries."""
    neighbours = nearest(parts.test, parts.train, k=max(ks))[1]
    labels = parts.train_labels[neighbours]
    recall = recall_at_k(parts.test_labels, labels, ks)
    return {str(k): v for k, v in recall.items()}, per_class_recall(parts.test_labels, labels, 1)


def retrieve(
    run: Run,
    *,
    ks: Sequence[int] = (1, 5, 10),
    store: str | None = None,
    split: int | Literal["all"] | None = None,
    clips: int | None = None,
    feature: Feature | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Retrieve the training videos nearest to each test video; one of its label is a hit.

    Args:
        run: The run whose latest checkpoint is evaluated.
        ks: Numbers of neighbours k for which to report recall.
        store: Path of the clip store; default: the run's.
        split: Number of the split, or `all` of the store; default: the run's.
        clips: number of clips whose embeddings are averaged per video; default: the run's setting.
        feature: Embedding to compare, `backbone` or `projection`; default: the run's setting.
        device: Device that computes embeddings which are not cached yet.
        workers: Processes that read clips for it; default: by device.
        say: Called with each message for the user.

    Returns:
        run, store, split, pretrained_on, queries, gallery, recall ({k: fraction}), per_class
        (recall at 1 of each class), feature, clips, cache. For all splits, queries and gallery are
        sums, recalls are means over the splits, and `splits` has the values of each.

    Raises:
        InputError: Unusable input, or one of its subclasses.
    """
    feature = feature or run.settings.retrieval_feature
    check_feature(run, feature)
    protocol = evaluation_protocol(run.settings, clips)
    split = run.settings.split if split is None else split
    cache, path = cached_embeddings(
        run,
        store=store,
        protocol=protocol,
        split=split,
        device=device,
        workers=workers,
        say=say,
    )
    numbers = sorted(cache.splits) if split == "all" else [split]
    results: dict[int, dict[str, Any]] = {}
    for number in numbers or [run.settings.split]:
        say_seen(run, path, number, say)
        parts = split_parts(cache, split=number, feature=feature, where=path)
        recall, per_class = recall_of(parts, ks)
        sizes = {"queries": len(parts.test), "gallery": len(parts.train)}
        results[number] = {**sizes, "recall": recall, "per_class": per_class}
    rows = list(results.values())
    return {
        **about_run(run, path, split),
        "queries": sum(row["queries"] for row in rows),
        "gallery": sum(row["gallery"] for row in rows),
        "recall": _means([row["recall"] for row in rows]),
        "per_class": _means([row["per_class"] for row in rows]),
        "feature": feature,
        "clips": protocol.clips,
        "cache": str(cache.path),
        **({"splits": results} if split == "all" else {}),
    }


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average over the rows that have a key."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}
