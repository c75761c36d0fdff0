"""FINCH's first partition: slic against finch-clust with its own exact neighbours.

    python benchmarks/clustering.py [--quick] [--json]

Vectors are drawn. Each side runs in a fresh process on one thread, its libraries loaded before
the clock starts; medians, and the ratio is of CPU times, against finch-clust stopped after the
first partition (its FINCH goes on to the coarser ones). Peak memory is of the whole process. Above
20,000 rows finch-clust has no exact way within reach: there slic runs alone, beside the size of the
matrix of distances that an exact way of its kind needs. Exits if labels differ other than in name.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import packages_distributions, version
from typing import Any

import numpy as np
import numpy.typing as npt
from alone import COST_COLUMNS, Spent, alone, costs, spent
from common import Column, Row, machine, say, show, show_json

from slic.train.clustering import finch

Labels = npt.NDArray[np.int64]
COMPARED, LARGE = (10_000, 20_000), 50_000
QUICK_COMPARED, QUICK_LARGE = (600,), 1_500
WIDTH = 128
ROUNDS, QUICK_ROUNDS = 3, 1
FEW = 50  # rows of a first call, which loads libraries
GB = 1e9
COLUMNS = (
    Column("side", "side"),
    Column("rows", "rows", ",d"),
    Column("clusters", "clusters", ",d"),
    *COST_COLUMNS,
    Column("N x N float32 GB", "matrix_gb", ".1f"),
    Column("ratio", "ratio", ".1f"),
)


def drawn_rows(count: int, width: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return `(count, width)` normal vectors around `count / 10` centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(count // 10, 1), width), dtype=np.float32)
    rows = random.standard_normal((count, width), dtype=np.float32)
    rows += centres[random.integers(len(centres), size=count)]
    return rows


def slic_finch(count: int) -> tuple[Labels, Spent]:
    """Cluster `count` random rows with slic and return the labels."""
    finch(drawn_rows(FEW, WIDTH))
    rows = drawn_rows(count, WIDTH)
    return spent(lambda: finch(rows))


def whole_finch_clust(count: int) -> tuple[Labels, Spent]:
    """Return the first partition of finch-clust's FINCH, which computes all partitions."""
    return _peer(lambda package, rows: package.FINCH(rows)[0][:, 0], count)


def first_finch_clust(count: int) -> tuple[Labels, Spent]:
    """Return the first partition by only the two steps of finch-clust that make it."""

    def partition(package: Any, rows: npt.NDArray[np.float32]) -> Labels:
        links, distance, *_ = package.clust_rank(rows, ann_threshold=len(rows))
        return package.get_clust(links, distance)[0]

    return _peer(partition, count)


def _peer(
    partition: Callable[[Any, npt.NDArray[np.float32]], Labels], count: int
) -> tuple[Labels, Spent]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pynndescent is not installed")
        from finch import finch as package
    partition(package, drawn_rows(FEW, WIDTH))
    rows = drawn_rows(count, WIDTH)
    return spent(lambda: partition(package, rows))


def same_partition(some: Labels, others: Labels) -> bool:
    """Return whether two labellings are equal up to the names of the clusters."""
    pairs = np.unique(np.stack((some, others)), axis=1).shape[1]
    return pairs == len(np.unique(some)) == len(np.unique(others))


def versions(*modules: str) -> dict[str, str]:
    """Return the installed versions of packages, given their import names."""
    installed = packages_distributions()
    return {name: version(name) for module in modules for name in installed[module]}


def measure(
    sides: Mapping[str, Callable[[int], tuple[Labels, Spent]]], count: int, rounds: int
) -> tuple[list[Row], list[Labels]]:
    """Run all sides at one size for some rounds; return a row and the labels of each side."""
    took: dict[str, list[Spent]] = {name: [] for name in sides}
    labels: dict[str, Labels] = {}
    for number in range(rounds):
        say(f"{count:,} rows, round {number + 1} of {rounds}")
        for name, side in sides.items():
            labels[name], cost = alone(side, count)
            took[name].append(cost)
    about = {"rows": count, "matrix_gb": count**2 * 4 / GB, "ratio": None}
    rows = [
        {"side": name, **about, "clusters": len(np.unique(labels[name])), **costs(took[name])}
        for name in sides
    ]
    return rows, list(labels.values())


def compare(count: int, rounds: int) -> tuple[list[Row], bool]:
    """Run all sides at one size, and compare their labels."""
    sides = {
        "finch-clust, all partitions": whole_finch_clust,
        "finch-clust, partition 0": first_finch_clust,
        "slic": slic_finch,
    }
    rows, (whole, first, ours) = measure(sides, count, rounds)
    rows[2]["ratio"] = rows[1]["cpu_seconds"] / rows[2]["cpu_seconds"]
    return rows, same_partition(ours, whole) and same_partition(ours, first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    sizes, large = (QUICK_COMPARED, QUICK_LARGE) if options.quick else (COMPARED, LARGE)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    compared = [compare(count, rounds) for count in sizes]
    rows = [row for some, _ in compared for row in some]
    rows += measure({"slic": slic_finch}, large, rounds)[0]
    same = all(agree for _, agree in compared)
    facts = machine(threads=1, width=WIDTH, **versions("finch", "sklearn", "faiss", "numpy"))
    ratio = min(row["ratio"] for row in rows if row["ratio"] is not None)
    if options.json:
        show_json(facts, sides=rows, same_labels=same, ratio=ratio)
    else:
        show(rows, COLUMNS, facts)
        print(f"labels of both sides equal up to naming: {'yes' if same else 'NO'}")
    if not same:
        sys.exit("slic's labels and finch-clust's differ")


if __name__ == "__main__":
    main()
