"""Approximate nearest neighbours among a million rows and more: an IVF index, its recall measured.

Rows are listed by the nearest of some centres, and a query is compared with the lists of the
centres nearest to it. How many lists suffice is found on rows of the index itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

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
RECALL = 0.99  # of a sample's neighbours, which so many lists find
SAMPLE = 1_000  # that the lists are chosen by, and as many others that tell the recall
WORTH = 0.5  # share of the lists to look at, above which an exact search takes no longer
LISTS_PER_ROOT = 4  # lists: so many times the square root of the rows
TRAINED_ON = 40  # rows a centre
ROUNDS = 10  # of k-means: more find hardly better lists
MOST = 50  # neighbours of a query
QUERIES = 4096
CANDIDATES = 1 << 22  # held at a time, 12 bytes each
TIE = 1e-6  # similarities less far apart are equal in float32


@dataclass(frozen=True)
class Lists:
    """Rows by list.

    Attributes:
        centres: (L, D) of the lists.
        offsets: (L + 1,) int64; list i holds the rows from `offsets[i]` to `offsets[i + 1]`.
        order: (N,) int64: which row of the caller's each one is.
        rows: (N, D) of length one, in the order of the lists.
        probes: lists that a query is compared with.
        recall: share of the `k` nearest rows that are found, by rows that chose no `probes`.
        sample: how many rows those are.
        k: neighbours that it was measured of.
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
    def worth(self) -> bool:
        """Whether a query is compared with few enough lists to gain by it."""
        return self.probes <= WORTH * len(self.centres)

    @property
    def told(self) -> str:
        """What a user should know of it."""
        if not self.worth:
            return (
                f"{len(self):,} rows: nearest neighbours by an exact search, as an IVF index would "
                f"look at {self.probes:,} of its {len(self.centres):,} lists"
            )
        nearest = "the nearest" if self.k == 1 else f"the {self.k} nearest"
        return (
            f"{len(self):,} rows: nearest neighbours by an IVF index of {len(self.centres):,} "
            f"lists, {self.probes:,} of them looked at: {100 * self.recall:.1f} % of {nearest} of "
            f"a sample of {self.sample:,} as an exact search finds them"
        )

    def nearest(self, queries: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
        """As `nearest_units` of the rows in the caller's order, but for what other lists hold.

        A query whose lists hold fewer than `k` rows is compared with all, as is one for more
        neighbours than `MOST`: of these the lists looked at may hold too few. So is any, where
        too many lists would have to be looked at.
        """
        exactly = k > MOST or not self.worth
        search = partial(nearest_units, units=self.rows) if exactly else self.nearest_places
        similarity, place = search(queries, k=k)
        return by_similarity(similarity, self.order[place])

    def nearest_places(self, queries: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
        """As `nearest`, by the place of each row in the lists' order."""
        k = min(k, len(self))
        similarity = np.empty((len(queries), k), dtype=np.float32)
        place = np.empty((len(queries), k), dtype=np.int64)
        step = max(1, min(QUERIES, CANDIDATES // (self.probes * k)))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            similarity[part], place[part] = self._some(queries[part], k)
        few = place[:, -1] < 0
        if few.any():
            similarity[few], place[few] = nearest_units(queries[few], self.rows, k=k)
        return similarity, place

    def _some(self, queries: FloatRows, k: int) -> tuple[FloatRows, Indices]:
        """Neighbours within the lists; -1 where these hold fewer than `k`."""
        size = (len(queries), self.probes, k)
        similarity, place = np.full(size, -np.inf, np.float32), np.full(size, -1, np.int64)
        _, probed = products(queries, self.centres, k=self.probes)
        for number, asked in _by_list(probed):
            begin, end = self.offsets[number], self.offsets[number + 1]
            if begin >= end:  # empty, or no list at all: of a file whose centres are no numbers
                continue
            query, slot = np.divmod(asked, self.probes)
            held = min(k, int(end - begin))
            found, where = products(queries[query], self.rows[begin:end], k=held)
            similarity[query, slot, :held], place[query, slot, :held] = found, where + begin
        return _best(similarity.reshape(len(queries), -1), place.reshape(len(queries), -1), k=k)


def build_lists(units: FloatRows, *, k: int, seed: int = 0) -> Lists:
    """List rows by k-means of a sample, and look at as many lists as `RECALL` takes.

    Args:
        units: (N, D) of length one, with N of 2 or more.
        k: neighbours of a query whose recall counts.
        seed: of the samples and the first centres.
    """
    random = np.random.default_rng(seed)
    count = min(round(LISTS_PER_ROOT * len(units) ** 0.5), len(units))
    sample = _drawn(random, len(units), TRAINED_ON * count)
    centres = kmeans_centres(units[sample], count, seed=seed, rounds=ROUNDS)
    home = nearest_units(units, centres, k=1)[1][:, 0]
    order = np.argsort(home, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(home, minlength=count))))
    held = min(k, len(units) - 1)
    lists = Lists(centres, offsets, order, units[order], probes=1, recall=0.0, sample=0, k=held)
    return _measured(lists, random)


def approximate(count: int) -> bool:
    """Whether so many rows are searched by an IVF index."""
    return count >= APPROXIMATE_FROM


def first_neighbours_of(units: FloatRows, *, say: Callable[[str], None]) -> Indices:
    """The most similar other row of each row; of `APPROXIMATE_FROM` rows by an IVF index.

    Args:
        units: (N, D) of length one, with N of 2 or more.
        say: takes a line where there are so many rows.

    Returns:
        (N,) int64.
    """
    if not approximate(len(units)):
        return first_other(nearest_units(units, units, k=2)[1])
    lists = build_lists(units, k=1)
    say(lists.told)
    if not lists.worth:
        return first_other(nearest_units(units, units, k=2)[1])
    # In the lists' order, so that a block's queries have lists in common.
    place = first_other(lists.nearest_places(lists.rows, k=2)[1])
    neighbour = np.empty(len(units), dtype=np.int64)
    neighbour[lists.order] = lists.order[place]
    return neighbour


def _measured(lists: Lists, random: np.random.Generator) -> Lists:
    """With as many probes as some rows take, and the recall of others, which did not choose."""
    drawn = random.permutation(_drawn(random, len(lists), 2 * SAMPLE))
    choosing, judging = np.split(drawn, [len(drawn) // 2])
    lists = replace(lists, probes=_probes(lists, np.sort(choosing)), sample=len(judging))
    return replace(lists, recall=_recall(lists, np.sort(judging)))


def _probes(lists: Lists, asked: Indices) -> int:
    """Lists to look at, to find `RECALL` of the nearest others of these rows."""
    queries = lists.rows[asked]
    exact = _others(asked, *nearest_units(queries, lists.rows, k=lists.k + 1))
    to_centre = queries @ lists.centres.T
    number = np.searchsorted(lists.offsets, exact[1], side="right") - 1
    own = np.take_along_axis(to_centre, number, axis=1)
    nearer = [(to_centre > own[:, [rank]]).sum(axis=1) for rank in range(lists.k)]
    # Nothing else decides whether a row is found: within its lists, a search is exact.
    return 1 + int(np.quantile(nearer, RECALL, method="inverted_cdf"))


def _recall(lists: Lists, asked: Indices) -> float:
    """Share of the nearest others of these rows that the lists looked at hold."""
    queries, k = lists.rows[asked], lists.k + 1
    exact = _others(asked, *nearest_units(queries, lists.rows, k=k))
    ours = _others(asked, *lists.nearest_places(queries, k=k))
    found = (exact[1][:, :, None] == ours[1][:, None, :]).any(axis=2)
    found |= exact[0] <= ours[0][:, -1:] + TIE
    return float(found.mean())


def _best(similarity: FloatRows, place: Indices, *, k: int) -> tuple[FloatRows, Indices]:
    """The `k` most similar of each row's candidates, in falling order."""
    kept = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(similarity, kept, axis=1)
    return by_similarity(found, np.take_along_axis(place, kept, axis=1))


def _others(asked: Indices, similarity: FloatRows, place: Indices) -> tuple[FloatRows, Indices]:
    """Neighbours but for the row itself, or the last where others came before it."""
    kept = np.argsort(place == asked[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(similarity, kept, axis=1), np.take_along_axis(place, kept, axis=1)


def _by_list(probed: Indices) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each list that is probed, with the places in the flat `probed` where it is."""
    flat = probed.reshape(-1)
    order = np.argsort(flat, kind="stable")
    numbers, begins = np.unique(flat[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, begins[1:]), strict=True)


def _drawn(random: np.random.Generator, count: int, most: int) -> Indices:
    return np.sort(random.choice(count, size=min(count, most), replace=False))
