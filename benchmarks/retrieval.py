"""Retrieval at UCF101's size: slic compared with a full sort of the cosine matrix in NumPy.

    python benchmarks/retrieval.py [--quick] [--json]

From (3,783, 512) queries, (9,537, 512) gallery rows and their labels, all drawn, to the 50 nearest
of each query and recall at 1, 5, 10, 20, 50. Sides in turn, each in a fresh process on one
thread, libraries loaded before the clock starts; medians, and the ratio is of CPU times. Exits if
recall differs, or neighbours other than by ties.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from alone import COST_COLUMNS, Spent, alone, costs, spent
from clustering import versions
from common import Column, machine, say, show, show_json

from slic.metrics import recall_at_k
from slic.neighbours.exact import nearest

KS = (1, 5, 10, 20, 50)
WIDTH, CLASSES = 512, 101
SIZE, QUICK_SIZE = (3_783, 9_537), (200, 500)
ROUNDS, QUICK_ROUNDS = 5, 1
TIE = 1e-6  # cosine similarities less far apart than this are a tie in float32
COLUMNS = (
    Column("side", "side"),
    *COST_COLUMNS,
    Column("ratio", "ratio", ".2f"),
)
Rows = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


class Drawn(NamedTuple):
    """Embeddings and labels of a split's queries and gallery."""

    queries: Rows
    query_labels: Codes
    gallery: Rows
    gallery_labels: Codes


class Found(NamedTuple):
    """Neighbours `(Q, 51)` with cosine similarities; the last one is only for finding ties."""

    similarity: Rows
    neighbour: Codes
    recall: dict[int, float]


def drawn(size: tuple[int, int]) -> Drawn:
    """Generate classes that overlap, so that recall is neither 0 nor 1."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    parts: list[npt.NDArray] = []
    for count in size:
        labels = random.integers(CLASSES, size=count)
        noise = random.standard_normal((count, WIDTH), dtype=np.float32)
        parts += [centres[labels] / 4 + noise, labels]
    return Drawn(*parts)


def by_slic(data: Drawn) -> Found:
    similarity, neighbour = nearest(data.queries, data.gallery, k=max(KS) + 1)
    counted = data.gallery_labels[neighbour[:, : max(KS)]]
    return Found(similarity, neighbour, recall_at_k(data.query_labels, counted, KS))


def by_full_sort(data: Drawn) -> Found:
    queries = data.queries / np.linalg.norm(data.queries, axis=1, keepdims=True)
    gallery = data.gallery / np.linalg.norm(data.gallery, axis=1, keepdims=True)
    similarity = queries @ gallery.T
    order = np.argsort(-similarity, axis=1)[:, : max(KS) + 1]
    hit = data.gallery_labels[order] == data.query_labels[:, None]
    recall = {k: float(hit[:, :k].any(axis=1).mean()) for k in KS}
    return Found(np.take_along_axis(similarity, order, axis=1), order, recall)


def slic_side(size: tuple[int, int]) -> tuple[Found, Spent]:
    return _timed(by_slic, size)


def full_sort_side(size: tuple[int, int]) -> tuple[Found, Spent]:
    return _timed(by_full_sort, size)


def _timed(work: Callable[[Drawn], Found], size: tuple[int, int]) -> tuple[Found, Spent]:
    work(drawn((2, 2 * max(KS))))  # loads libraries
    data = drawn(size)
    return spent(lambda: work(data))


def different_sets(ours: Found, theirs: Found) -> int:
    """Count the queries whose k nearest differ for some k without a tie."""
    different = np.zeros(len(ours.neighbour), dtype=bool)
    for k in KS:
        sets = [np.sort(found.neighbour[:, :k], axis=1) for found in (ours, theirs)]
        tied = theirs.similarity[:, k - 1] - theirs.similarity[:, k] < TIE
        different |= (sets[0] != sets[1]).any(axis=1) & ~tied
    return int(different.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    size, rounds = (QUICK_SIZE, QUICK_ROUNDS) if options.quick else (SIZE, ROUNDS)
    took: dict[str, list[Spent]] = {"full sort": [], "slic": []}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        theirs, their_cost = alone(full_sort_side, size)
        ours, our_cost = alone(slic_side, size)
        took["full sort"].append(their_cost)
        took["slic"].append(our_cost)
    rows = [{"side": name, **costs(each), "ratio": None} for name, each in took.items()]
    ratio = rows[1]["ratio"] = rows[0]["cpu_seconds"] / rows[1]["cpu_seconds"]
    different = different_sets(ours, theirs)
    about = {"queries": size[0], "gallery": size[1], "width": WIDTH}
    facts = machine(threads=1, **about, **versions("faiss", "numpy"))
    if options.json:
        show_json(facts, sides=rows, recall=ours.recall, different_sets=different, ratio=ratio)
    else:
        show(rows, COLUMNS, facts)
        print("recall", ", ".join(f"@{k} {value:.4f}" for k, value in ours.recall.items()))
        print(f"queries whose neighbours differ (without ties): {different}")
    if different or ours.recall != theirs.recall:
        sys.exit("slic's neighbours or recall differ from those of the full sort")


if __name__ == "__main__":
    main()
