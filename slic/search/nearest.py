"""The nearest rows of a cache, each video or place once, and never the query itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.embed.embedding import FloatRows
from slic.neighbours.exact import nearest_units
from slic.neighbours.lists import Lists

_AT_FIRST, _MORE = 4, 4  # candidates for each window that is listed, and how many times more


@dataclass(frozen=True)
class Place:
    """A video, or in a cache of windows the part of it from `start` to `end`, in seconds."""

    video: str
    start: float
    end: float

    def overlaps(self, other: "Place") -> bool:
        """Whether both are of one video and share some of it."""
        same = self.video == other.video
        return same and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Asked:
    """What is searched for.

    Attributes:
        rows: `(Q, D)` embeddings, each of length one.
        own: the place of each in the store, which is no answer; None for files.
    """

    rows: FloatRows
    own: Sequence[Place | None]


def place_of(cache: EmbeddingCache, row: int) -> Place:
    """Where a row lies; a cache of videos knows no seconds."""
    at = cache.places
    if at is None:
        return Place(str(cache.ids[row]), 0.0, np.inf)
    return Place(str(at.of[row]), float(at.start[row]), float(at.end[row]))


def nearest_places(
    asked: Asked, units: FloatRows | Lists, cache: EmbeddingCache, *, k: int
) -> list[list[tuple[int, float]]]:
    """Of each query the `k` rows most similar to it, with their similarities.

    Exactly, or as an IVF index finds them.

    Of rows that overlap, only the most similar is listed; of equal ones, the first.

    Args:
        asked: Q queries.
        units: `(N, D)` rows of the cache, each of length one; or in lists.
        cache: where they lie.
        k: how many; there may be fewer.
    """
    answers: list[list[tuple[int, float]]] = [[] for _ in asked.own]
    left = np.arange(len(asked.own))
    search = units.nearest if isinstance(units, Lists) else partial(nearest_units, units=units)
    # Videos do not overlap, but for the query itself.
    wanted = k + 1 if cache.places is None else _AT_FIRST * (k + 1)
    while len(left):
        similarity, found = search(asked.rows[left], k=wanted)
        for query, values, rows in zip(left.tolist(), similarity, found, strict=True):
            answers[query] = _apart(values, rows, asked.own[query], cache, k=k)
        if wanted >= len(units):
            break
        left = np.array([query for query in left if len(answers[query]) < k], dtype=np.int64)
        wanted *= _MORE
    return answers


def _apart(
    values: NDArray[np.float32],
    rows: NDArray[np.int64],
    own: Place | None,
    cache: EmbeddingCache,
    *,
    k: int,
) -> list[tuple[int, float]]:
    taken: dict[str, list[Place]] = {} if own is None else {own.video: [own]}
    kept: list[tuple[int, float]] = []
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        place = place_of(cache, row)
        others = taken.setdefault(place.video, [])
        if any(place.overlaps(other) for other in others):
            continue
        others.append(place)
        kept.append((row, value))
        if len(kept) == k:
            break
    return kept
