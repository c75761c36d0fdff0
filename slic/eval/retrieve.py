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
from slic.errors import InputError
from slic.metrics import per_class_recall, recall_at_k
from slic.neighbours.exact import nearest
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
    split: int | Literal["all"] | None = None,
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
        split: number; `all` that the store has; the run's if None.
        clips: clips a video; the run's setting if None.
        feature: `backbone` or `projection`; the run's setting if None.
        device, workers: for embeddings that are not cached yet.
        say: takes lines meant for the user.

    Returns:
        run, store, split, queries, gallery, feature, clips, recall ({k: fraction}),
        per_class (recall at 1 of each class). Of all splits, queries and gallery are sums, the
        others means over the splits, and `splits` has what is of each.

    Raises:
        InputError and its kinds: unusable input.
    """
    kind = feature or run.settings.retrieval_feature
    check_feature(run, kind)
    protocol = evaluation_protocol(run.settings, clips)
    asked = run.settings.split if split is None else split
    cache, path = cached_embeddings(
        run,
        store=store,
        protocol=protocol,
        split=asked,
        device=device,
        workers=workers,
        say=say,
    )
    numbers = sorted(cache.splits) if asked == "all" else [asked]
    found = {}
    for number in numbers or [run.settings.split]:
        say_seen(run, path, number, say)
        parts = split_parts(cache, split=number, feature=kind, where=path)
        recall, per_class = recall_of(parts, ks)
        sizes = {"queries": len(parts.test), "gallery": len(parts.train)}
        found[number] = {**sizes, "recall": recall, "per_class": per_class}
    return {
        "run": str(run.path),
        "store": str(path),
        "split": asked,
        "pretrained_on": None if run.imported else run.settings.split,
        **_together(list(found.values())),
        "feature": kind,
        "clips": protocol.clips,
        "cache": str(cache.path),
        **({"splits": found} if asked == "all" else {}),
    }


def _together(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums of what is counted, and means of the recalls, over splits."""
    sizes = {key: sum(one[key] for one in found) for key in ("queries", "gallery")}
    return {**sizes, **{key: _means([f[key] for f in found]) for key in ("recall", "per_class")}}


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(of) / len(of) for name, of in values.items()}
