"""Queries and their nearest videos: a random sample, and the worst and the best classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.clips.seeding import seeded
from slic.config import Feature
from slic.metrics import per_class_recall
from slic.neighbours.exact import FloatRows, nearest, unit_float32
from slic.page.videos import Videos
from slic.runtime.text import counted

NEIGHBOURS = 6  # per query, as many as a row of the page has room for
SEARCHED = 10  # the largest k of the report's recall
RANDOM_QUERIES = 24
CLASSES_PER_VIEW = 8
QUERIES_PER_CLASS = 3

Rows = NDArray[np.int64]
Section = dict[str, Any]


@dataclass(frozen=True)
class Neighbours:
    """The nearest training videos of each test video; rows are positions in the cache.

    Attributes:
        queries: `(Q,)` rows of the queries.
        neighbours: `(Q, K)` rows of the neighbours, nearest first.
        similarity: `(Q, K)` float32 cosine similarities.
        gallery_size: number of videos that were searched.
    """

    queries: Rows
    neighbours: Rows
    similarity: NDArray[np.float32]
    gallery_size: int


def split_neighbours(cache: EmbeddingCache, *, split: int, feature: Feature) -> Neighbours | None:
    """Find the neighbours of a split's test videos, among videos with label and finite embedding.

    Returns:
        None without labels, or without test or training videos in the split.
    """
    if cache.labels is None or split not in cache.splits:
        return None
    rows, usable = embeddings(cache, feature)
    known, parts = usable & (cache.labels != ""), cache.splits[split]
    test, train = (np.flatnonzero(known & (parts == part)) for part in ("test", "train"))
    if not len(test) or not len(train):
        return None
    similarity, found = nearest(rows[test], rows[train], k=SEARCHED)
    return Neighbours(test, train[found], similarity, len(train))


def embeddings(cache: EmbeddingCache, feature: Feature) -> tuple[FloatRows, NDArray[np.bool_]]:
    """Return the embeddings `(N, D)` of a cache, and which are finite, `(N,)`."""
    rows = cache.backbone if feature == "backbone" else cache.projection
    return rows, np.asarray(np.isfinite(rows).all(axis=1))


def gallery(
    cache: EmbeddingCache,
    videos: Videos,
    *,
    found: Neighbours | None,
    feature: Feature,
    clips: int,
    seed: int,
) -> tuple[Section | None, list[Section]]:
    """Build the sections `gallery` and `classes`; None and [] without usable embeddings.

    Args:
        cache: embeddings.
        videos: receives the videos that are shown.
        found: result of `split_neighbours`. With None, random videos are compared with all
            others, and no neighbour counts as right or wrong.
        feature: embedding that was compared.
        clips: clips per video that were averaged.
        seed: random seed of the samples.
    """
    labels = None if found is None else np.asarray(cache.labels)
    found = found or _unlabelled_neighbours(cache, feature, seed)
    if found is None:
        return None, []

    def rows_of(queries: Rows) -> list[Section]:
        return [_row(cache, videos, found, labels, query) for query in queries.tolist()]

    count = len(found.queries)
    total = (
        counted(count, "test video")
        if labels is not None
        else counted(found.gallery_size + 1, "video")
    )
    sample = _sample(np.arange(count), RANDOM_QUERIES, seed, "random")
    note = f"{len(sample)} of {total}, drawn at random (seed {seed})"
    group = {"title": None, "note": None, "rows": rows_of(sample)}
    views = [{"key": "random", "title": "A random sample", "note": note, "groups": [group]}]
    classes = []
    if labels is not None:
        classes = _classes(labels, found)
        views += _class_views(labels[found.queries], classes, rows_of, seed)
    about = {"feature": feature, "clips": clips, "labelled": labels is not None}
    about |= {"queries": count, "among": found.gallery_size}
    return {**about, "views": views}, classes


def _unlabelled_neighbours(cache: EmbeddingCache, feature: Feature, seed: int) -> Neighbours | None:
    """Compare random videos with all others."""
    rows, usable = embeddings(cache, feature)
    places = np.flatnonzero(usable)
    if not len(places):
        return None
    units = unit_float32(rows[places], name="embeddings")
    own = np.sort(_sample(np.arange(len(places)), RANDOM_QUERIES, seed, "queries"))
    similarity = units[own] @ units.T
    similarity[np.arange(len(own)), own] = -np.inf  # a video is not its own neighbour
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(places) - 1)]
    values = np.take_along_axis(similarity, order, axis=1)
    return Neighbours(places[own], places[order], values, len(places) - 1)


def _sample(rows: Rows, count: int, seed: int, purpose: str) -> Rows:
    """Return at most `count` of the rows, in random order."""
    return seeded("gallery", seed, purpose).permutation(rows)[:count]


def _row(
    cache: EmbeddingCache,
    videos: Videos,
    found: Neighbours,
    labels: NDArray[Any] | None,
    number: int,
) -> Section:
    """Build a query and its neighbours, and add their videos to the table."""
    query = int(found.queries[number])
    own = videos.row_of(str(cache.ids[query]))
    pairs = zip(found.neighbours[number].tolist(), found.similarity[number].tolist(), strict=True)
    neighbours = [
        {
            "video": videos.row_of(str(cache.ids[place])),
            "similarity": round(value, 4),
            "right": None if labels is None else bool(labels[query] == labels[place]),
        }
        for place, value in list(pairs)[:NEIGHBOURS]
    ]
    return {"query": own, "neighbours": neighbours}


def _classes(labels: NDArray[Any], found: Neighbours) -> list[Section]:
    """Compute recall at 1 for every class of the queries, worst first."""
    asked = labels[found.queries]
    recall = per_class_recall(asked, labels[found.neighbours], 1)
    names, counts = np.unique(asked, return_counts=True)
    queries = dict(zip(names.tolist(), counts.tolist(), strict=True))
    worst_first = sorted(recall, key=lambda label: (recall[label], label))
    return [{"label": n, "queries": queries[n], "recall": recall[n]} for n in worst_first]


def _class_views(
    asked: NDArray[Any],
    classes: Sequence[Section],
    rows_of: Callable[[Rows], list[Section]],
    seed: int,
) -> list[Section]:
    """Build the views of the worst and of the best classes; no class is in both.

    Args:
        asked: `(Q,)` labels of the queries.
        classes: section `classes`, worst first.
        rows_of: returns the gallery's rows for positions of queries.
        seed: random seed of the samples.
    """
    half = len(classes) // 2 if classes[0]["recall"] < classes[-1]["recall"] else 0
    best = classes[::-1][: min(CLASSES_PER_VIEW, half)]
    worst = classes[: min(CLASSES_PER_VIEW, len(classes) - half)]
    views = []
    for key, which, chosen in (("worst", "lowest", worst), ("best", "highest", best)):
        groups = []
        for one in chosen:
            own = np.flatnonzero(asked == one["label"])
            sample = _sample(own, QUERIES_PER_CLASS, seed, one["label"])
            note = f"recall at 1 {100 * one['recall']:.0f} % of {counted(one['queries'], 'video')}"
            groups.append({"title": one["label"], "note": note, "rows": rows_of(sample)})
        note = (
            f"the {len(chosen)} of {len(classes)} classes with the {which} recall at 1;"
            f" {QUERIES_PER_CLASS} queries of each, or all, drawn at random (seed {seed})"
        )
        if groups:
            title = f"The {key} classes"
            views.append({"key": key, "title": title, "note": note, "groups": groups})
    return views
