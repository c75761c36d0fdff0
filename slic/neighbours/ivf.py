"""Approximate nearest neighbours among a million rows and more: an IVF index of measured recall.

Rows are listed by the nearest of some centres, and a query is compared with the lists of the
centres nearest to it. The number of lists to compare with is chosen on rows of the index itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slic.neighbours.exact import (
    FloatRows,
    Indices,
    by_similarity,
    first_other,
    kmeans_centres,
    nearest_units,
    products,
)

APPROXIMATE_FROM = 1_000_000  # rows; fewer are searched exactly
RECALL = 0.99  # share of a sample's neighbours that the lists must hold
SAMPLE = 1_000  # rows that choose the number of lists, and as many others that measure the recall
WORTHWHILE = 0.5  # share of all lists, above which an exact search takes no longer
LISTS_PER_ROOT = 4  # number of lists, as a multiple of the square root of the rows
TRAINED_ON = 40  # rows for each centre
ROUNDS = 10  # of k-means: more hardly improve the lists
MAX_NEIGHBOURS = 50  # of a query; more are searched for exactly
QUERIES = 4096  # searched at a time
CANDIDATES = 1 << 22  # in memory at a time, 12 bytes each
TIE = 1e-6  # similarities that differ by less are equal in float32


@dataclass(frozen=True)
class IvfIndex:
    """Rows grouped into lists (an inverted file).

    Attributes:
        centres: `(L, D)` centres of the lists.
        offsets: `(L + 1,)` int64; list i holds the rows from `offsets[i]` to `offsets[i + 1]`.
        order: `(N,)` int64, the original number of each row.
        rows: `(N, D)` rows of length one, in the order of the lists.
        probes: number of lists that a query is compared with.
        recall: share of the `k` nearest rows that are found, measured on other rows than those
            that chose `probes`.
        sample: number of rows that it was measured on.
        k: number of neighbours that it was measured for.
    """

    centres: FloatRows
    offsets: Indices
    order: Indices
    rows: FloatRows
    probes: int
    recall: float
    sample: int
    k: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_worthwhile(self) -> bool:
        """Whether comparing with `probes` lists is faster than an exact search."""
        return self.probes <= WORTHWHILE * len(self.centres)

    @property
    def summary(self) -> str:
        """A line for the user: how large the index is, and what it finds."""
        if not self.is_worthwhile:
            return (
                f"{len(self):,} rows: exact search, because an IVF index would have to probe "
                f"{self.probes:,} of its {len(self.centres):,} lists"
            )
        nearest = "the nearest" if self.k == 1 else f"the {self.k} nearest"
        return (
            f"{len(self):,} rows: IVF index of {len(self.centres):,} lists, {self.probes:,} of "
            f"them probed; finds {100 * self.recall:.1f} % of {nearest} that an exact search finds "
            f"(measured on a sample of {self.sample:,})"
        )

    def nearest(self, queries: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
        """Do as `nearest_units` on the original rows, except for neighbours in other lists.

        The search is exact for a query whose lists hold fewer than `k` rows, for more than
        `MAX_NEIGHBOURS` neighbours, and if the index is not worthwhile.
        """
        if k > MAX_NEIGHBOURS or not self.is_worthwhile:
            similarity, place = nearest_units(queries, self.rows, k=k)
        else:
            similarity, place = self.nearest_places(queries, k=k)
        return by_similarity(similarity, self.order[place])

    def nearest_places(self, queries: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
        """Do as `nearest`, but return the places of rows in `self.rows`."""
        k = min(k, len(self))
        similarity = np.empty((len(queries), k), dtype=np.float32)
        place = np.empty((len(queries), k), dtype=np.int64)
        step = max(1, min(QUERIES, CANDIDATES // (self.probes * k)))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            similarity[part], place[part] = self._search_lists(queries[part], k)
        few = place[:, -1] < 0
        if few.any():
            similarity[few], place[few] = nearest_units(queries[few], self.rows, k=k)
        return similarity, place

    def _search_lists(self, queries: FloatRows, k: int) -> tuple[FloatRows, Indices]:
        """Find neighbours within the probed lists; -1 where these hold fewer than `k` rows."""
        size = (len(queries), self.probes, k)
        similarity, place = np.full(size, -np.inf, np.float32), np.full(size, -1, np.int64)
        _, probed = products(queries, self.centres, k=self.probes)
        for number, where in _by_list(probed):
            begin, end = self.offsets[number], self.offsets[number + 1]
            if begin >= end:  # empty, or no list: a query of NaN
                continue
            query, slot = np.divmod(where, self.probes)
            count = min(k, int(end - begin))
            values, at = products(queries[query], self.rows[begin:end], k=count)
            similarity[query, slot, :count], place[query, slot, :count] = values, at + begin
        candidates, places = similarity.reshape(len(queries), -1), place.reshape(len(queries), -1)
        best = np.argpartition(-candidates, k - 1, axis=1)[:, :k]
        return by_similarity(
            np.take_along_axis(candidates, best, axis=1), np.take_along_axis(places, best, axis=1)
        )


def build_ivf_index(units: FloatRows, *, k: int, seed: int = 0) -> IvfIndex:
    """List rows by k-means of a sample, and choose as many probes as `RECALL` requires.

    Args:
        units: `(N, D)` rows of length one, N >= 2.
        k: number of neighbours of a query whose recall counts.
        seed: seed of the samples and the first centres.
    """
    random = np.random.default_rng(seed)
    count = min(round(LISTS_PER_ROOT * len(units) ** 0.5), len(units))
    sample = _drawn(random, len(units), TRAINED_ON * count)
    centres = kmeans_centres(units[sample], count, seed=seed, rounds=ROUNDS)
    home = nearest_units(units, centres, k=1)[1][:, 0]
    order = np.argsort(home, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(home, minlength=count))))
    k = min(k, len(units) - 1)
    index = IvfIndex(centres, offsets, order, units[order], probes=1, recall=0.0, sample=0, k=k)
    drawn = random.permutation(_drawn(random, len(index), 2 * SAMPLE))
    choosing, measuring = np.split(drawn, [len(drawn) // 2])
    probes = _required_probes(index, np.sort(choosing))
    index = replace(index, probes=probes, sample=len(measuring))
    return replace(index, recall=_recall(index, np.sort(measuring)))


def approximate(count: int) -> bool:
    """Return whether so many rows are searched by an IVF index."""
    return count >= APPROXIMATE_FROM


def first_neighbours_of(units: FloatRows, *, say: Callable[[str], None]) -> Indices:
    """Find the most similar other row of each row; by an IVF index from `APPROXIMATE_FROM` rows.

    Args:
        units: `(N, D)` rows of length one, N >= 2.
        say: called with a line about the index, if one is built.

    Returns:
        `(N,)` int64.
    """
    if approximate(len(units)):
        index = build_ivf_index(units, k=1)
        say(index.summary)
        if index.is_worthwhile:
            # In the lists' order, so that the queries of a block have lists in common.
            place = first_other(index.nearest_places(index.rows, k=2)[1])
            neighbour = np.empty(len(units), dtype=np.int64)
            neighbour[index.order] = index.order[place]
            return neighbour
    return first_other(nearest_units(units, units, k=2)[1])


def _required_probes(index: IvfIndex, sample: Indices) -> int:
    """Return the number of lists that hold `RECALL` of the nearest others of some rows."""
    queries = index.rows[sample]
    exact = _others(sample, *nearest_units(queries, index.rows, k=index.k + 1))
    to_centre = queries @ index.centres.T
    number = np.searchsorted(index.offsets, exact[1], side="right") - 1
    own = np.take_along_axis(to_centre, number, axis=1)
    nearer = [(to_centre > own[:, [rank]]).sum(axis=1) for rank in range(index.k)]
    # A row is found if its list is probed: within lists, the search is exact.
    return 1 + int(np.quantile(nearer, RECALL, method="inverted_cdf"))


def _recall(index: IvfIndex, sample: Indices) -> float:
    """Return the share of the nearest others of some rows that the index finds."""
    queries, k = index.rows[sample], index.k + 1
    exact = _others(sample, *nearest_units(queries, index.rows, k=k))
    ours = _others(sample, *index.nearest_places(queries, k=k))
    found = (exact[1][:, :, None] == ours[1][:, None, :]).any(axis=2)
    found |= exact[0] <= ours[0][:, -1:] + TIE
    return float(found.mean())


def _others(sample: Indices, similarity: FloatRows, place: Indices) -> tuple[FloatRows, Indices]:
    """Drop from neighbours the row itself, or the last one if others came before it."""
    others = np.argsort(place == sample[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(similarity, others, axis=1), np.take_along_axis(place, others, axis=1)


def _by_list(probed: Indices) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield each probed list with the places in the flattened `probed` where it occurs."""
    flat = probed.reshape(-1)
    order = np.argsort(flat, kind="stable")
    numbers, begins = np.unique(flat[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, begins[1:]), strict=True)


def _drawn(random: np.random.Generator, count: int, most: int) -> Indices:
    return np.sort(random.choice(count, size=min(count, most), replace=False))
