"""Queries and their nearest videos: a random sample, and those of the worst and best classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.clips.seeding import seeded
from slic.config import Feature
from slic.metrics import per_class_recall
from slic.neighbours.exact import FloatRows, nearest
from slic.page.videos import Videos
from slic.runtime.text import counted

NEIGHBOURS = 6  # shown
SEARCHED = 10  # the largest k of the recall that a report tells
RANDOM_QUERIES = 24
SHOWN_CLASSES = 8
CLASS_QUERIES = 3

Places = NDArray[np.int64]
Section = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The nearest training videos of each test video of a split, among labelled ones.

    Attributes:
        queries: `(Q,)` positions in the cache.
        neighbours: `(Q, K)` positions in the cache, nearest first.
        similarity: `(Q, K)` float32, cosine.
        among: how many training videos there are.
    """

    queries: Places
    neighbours: Places
    similarity: NDArray[np.float32]
    among: int


def split_neighbours(cache: EmbeddingCache, *, split: int, feature: Feature) -> Found | None:
    """The retrieval of a split, once for gallery and confusion; None without labels or split.

    Videos whose embedding holds NaN or infinity are left out.
    """
    if cache.labels is None or split not in cache.splits:
        return None
    rows, usable = embeddings(cache, feature)
    known, words = usable & (cache.labels != ""), cache.splits[split]
    test, train = (np.flatnonzero(known & (words == word)) for word in ("test", "train"))
    if not len(test) or not len(train):
        return None
    similarity, found = nearest(rows[test], rows[train], k=SEARCHED)
    return Found(test, train[found], similarity, len(train))


def embeddings(cache: EmbeddingCache, feature: Feature) -> tuple[FloatRows, NDArray[np.bool_]]:
    """Embeddings `(N, D)` of a cache, and which are finite `(N,)`."""
    rows = cache.backbone if feature == "backbone" else cache.projection
    return rows, np.asarray(np.isfinite(rows).all(axis=1))


def gallery(
    cache: EmbeddingCache,
    videos: Videos,
    *,
    found: Found | None,
    feature: Feature,
    clips: int,
    seed: int,
) -> tuple[Section | None, list[Section]]:
    """The sections `gallery` and `classes` of a report; None and [] where there is nothing.

    Args:
        cache: embeddings.
        videos: takes the videos that are shown.
        found: of `split_neighbours`; with None, random videos among all others, none marked.
        feature, clips: what the embeddings are, for the section.
        seed: of what is drawn.
    """
    labelled = found is not None
    if found is None:
        found = _among_all(cache, feature, seed)
    if found is None:
        return None, []
    rows = _Rows(cache, videos, found, labelled=labelled)
    classes = _classes(cache, found) if labelled else []
    views = [_random(rows, seed), *_by_class(rows, classes, seed)]
    about = {"feature": feature, "clips": clips, "labelled": labelled}
    about |= {"queries": len(found.queries), "among": found.among}
    return {**about, "views": views}, classes


def _among_all(cache: EmbeddingCache, feature: Feature, seed: int) -> Found | None:
    """Random videos and their nearest others."""
    rows, usable = embeddings(cache, feature)
    places = np.flatnonzero(usable)
    if not len(places):
        return None
    queries = np.sort(_drawn(places, RANDOM_QUERIES, seed, "queries"))
    similarity, near = nearest(rows[queries], rows[places], k=NEIGHBOURS + 1)
    near = places[near]
    # Among equal videos a query may come anywhere, or not at all: the last one then is too many.
    own = near == queries[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(queries), near.shape[1] - 1)
    others, values = near[~own].reshape(shape), similarity[~own].reshape(shape)
    return Found(queries, others, values, len(places) - 1)


def _drawn(places: Places, count: int, seed: int, what: str) -> Places:
    """Some of the places, or all where there are no more, in an order that `seed` decides."""
    return seeded("gallery", seed, what).permutation(places)[:count]


def _classes(cache: EmbeddingCache, found: Found) -> list[Section]:
    """Recall at 1 of every class that is asked for, worst first."""
    labels = np.asarray(cache.labels)
    asked = labels[found.queries]
    recall = per_class_recall(asked, labels[found.neighbours], 1)
    names, counts = np.unique(asked, return_counts=True)
    queries = dict(zip(names.tolist(), counts.tolist(), strict=True))
    worst_first = sorted(recall, key=lambda label: (recall[label], label))
    return [{"label": n, "queries": queries[n], "recall": recall[n]} for n in worst_first]


class _Rows:
    """Rows of the gallery, whose videos enter the table as they are shown."""

    def __init__(
        self, cache: EmbeddingCache, videos: Videos, found: Found, *, labelled: bool
    ) -> None:
        self._cache, self._videos, self.found = cache, videos, found
        self.labels = np.asarray(cache.labels) if labelled else None

    def of(self, queries: Places) -> list[Section]:
        """Rows of some queries, by their places in `found`."""
        return [self._row(query) for query in queries.tolist()]

    def _row(self, number: int) -> Section:
        found, query = self.found, int(self.found.queries[number])
        near, similarity = found.neighbours[number], found.similarity[number]
        pairs = zip(near[:NEIGHBOURS].tolist(), similarity[:NEIGHBOURS], strict=True)
        return {
            "query": self._shown(query),
            "neighbours": [
                {
                    "video": self._shown(place),
                    "similarity": round(float(value), 4),
                    "right": self._right(query, place),
                }
                for place, value in pairs
            ],
        }

    def _shown(self, place: int) -> int:
        return self._videos.row_of(str(self._cache.ids[place]))

    def _right(self, query: int, place: int) -> bool | None:
        return None if self.labels is None else bool(self.labels[query] == self.labels[place])


def _random(rows: _Rows, seed: int) -> Section:
    count = len(rows.found.queries)
    drawn = _drawn(np.arange(count), RANDOM_QUERIES, seed, "random")
    whole = counted(count, "test video")
    if rows.labels is None:  # the queries are a sample themselves
        whole = counted(rows.found.among + 1, "video")
    note = f"{len(drawn)} of {whole}, drawn at random (seed {seed})"
    group = {"title": None, "note": None, "rows": rows.of(drawn)}
    return {"key": "random", "title": "A random sample", "note": note, "groups": [group]}


def _by_class(rows: _Rows, classes: Sequence[Section], seed: int) -> list[Section]:
    """The views of the worst and of the best classes, none of which is in both."""
    differ = bool(classes) and classes[0]["recall"] < classes[-1]["recall"]
    half = len(classes) // 2 if differ else 0
    best = classes[::-1][: min(SHOWN_CLASSES, half)]
    worst = classes[: min(SHOWN_CLASSES, len(classes) - half)]
    sides = (("worst", "lowest", worst), ("best", "highest", best))
    return [_class_view(rows, *side, len(classes), seed) for side in sides if side[2]]


def _class_view(
    rows: _Rows, key: str, which: str, classes: Sequence[Section], count: int, seed: int
) -> Section:
    asked = np.asarray(rows.labels)[rows.found.queries]
    groups = []
    for one in classes:
        own = np.flatnonzero(asked == one["label"])
        drawn = _drawn(own, CLASS_QUERIES, seed, one["label"])
        note = f"recall at 1 {100 * one['recall']:.0f} % of {counted(one['queries'], 'video')}"
        groups.append({"title": one["label"], "note": note, "rows": rows.of(drawn)})
    note = (
        f"{len(classes)} of {count} classes, those of the {which} recall at 1, with"
        f" {CLASS_QUERIES} queries each or all there are, drawn at random (seed {seed})"
    )
    return {"key": key, "title": f"The {key} classes", "note": note, "groups": groups}
