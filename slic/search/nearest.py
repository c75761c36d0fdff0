"""Find the rows of an embedding cache nearest to queries, without overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.embed.embedding import FloatRows
from slic.neighbours.exact import nearest_units
from slic.neighbours.ivf import IvfIndex

# Windows to retrieve for each requested one, as some overlap; while too few remain, more of them.
_CANDIDATES, _MORE = 4, 4


@dataclass(frozen=True)
class Moment:
    """A part of a video from `start` to `end`, in seconds; by default all of it."""

    video: str
    start: float = 0.0
    end: float = np.inf

    def overlaps(self, other: "Moment") -> bool:
        """Return whether both are of the same video and share some time."""
        same = self.video == other.video
        return same and self.start < other.end and other.start < self.end


def moment_of(cache: EmbeddingCache, row: int) -> Moment:
    """Return the window, or the whole video, that a row of a cache embeds."""
    at = cache.places
    if at is None:
        return Moment(str(cache.ids[row]))
    return Moment(str(at.of[row]), float(at.start[row]), float(at.end[row]))


def nearest_moments(
    queries: FloatRows,
    own: Sequence[Moment | None],
    units: FloatRows | IvfIndex,
    cache: EmbeddingCache,
    *,
    k: int,
) -> list[list[tuple[int, float]]]:
    """Find the k rows of a cache that are most similar to each query.

    Of rows that overlap in time, only the most similar is listed; of equally similar ones, the
    first.

    Args:
        queries: `(Q, D)` embeddings of unit length.
        own: For each query the moment of the store that it is, which is no result; or None.
        units: `(N, D)` rows of the cache, of unit length; or an IVF index of them.
        cache: The cache.
        k: Number of rows; if fewer do not overlap, all of these are listed.

    Returns:
        For each query (row, cosine similarity) pairs, most similar first.
    """
    results: list[list[tuple[int, float]]] = [[] for _ in own]
    left = np.arange(len(own))
    search = units.nearest if isinstance(units, IvfIndex) else partial(nearest_units, units=units)
    # Whole videos overlap only the query itself.
    count = k + 1 if cache.places is None else _CANDIDATES * (k + 1)
    while len(left):
        similarity, rows = search(queries[left], k=count)
        for query, values, candidates in zip(left.tolist(), similarity, rows, strict=True):
            results[query] = _without_overlaps(values, candidates, own[query], cache, k=k)
        if count >= len(units):
            break
        left = np.array([query for query in left if len(results[query]) < k], dtype=np.int64)
        count *= _MORE
    return results


def _without_overlaps(
    values: NDArray[np.float32],
    rows: NDArray[np.int64],
    own: Moment | None,
    cache: EmbeddingCache,
    *,
    k: int,
) -> list[tuple[int, float]]:
    taken: dict[str, list[Moment]] = {} if own is None else {own.video: [own]}
    kept: list[tuple[int, float]] = []
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        moment = moment_of(cache, row)
        others = taken.setdefault(moment.video, [])
        if any(moment.overlaps(other) for other in others):
            continue
        others.append(moment)
        kept.append((row, value))
        if len(kept) == k:
            break
    return kept
