"""FINCH on many rows: exact first neighbours, and those of an IVF index.

    python benchmarks/neighbours_at_size.py [--quick] [--json] [--exact N,...] [--ivf N,...]
        [--part N,...]

Rows of 128 numbers about a tenth as many centres (cosine about 0.8 to rows of the same centre), and
for the IVF index also normal numbers about none, of which only the index is made: that tells how
many lists it would look at. Where an exact search of all would take an hour, `part` is that of the
first 20,000 rows among all. Each size and side runs once in a fresh process on one thread,
libraries loaded before the clock starts; peak memory is of the whole process. The growth is the
power of the rows that the CPU time grows by, from the size before. Exits if the IVF index gives
fewer of the exact first neighbours than 97 %, where both sides run.
"""

import argparse
import math
import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from alone import COST_COLUMNS, Spent, alone, costs, spent
from clustering import versions
from common import Column, Row, machine, refuse, say, show, show_json

from slic.neighbours import ivf
from slic.neighbours.exact import nearest_units, unit_float32
from slic.neighbours.ivf import build_ivf_index, first_neighbours_of
from slic.train.clustering import finch

EXACT, IVF, SPREAD = (10_000, 100_000, 200_000), (10_000, 100_000, 1_000_000), (100_000,)
PART, ROWS_OF_PART = (1_000_000,), 20_000
QUICK_EXACT, QUICK_IVF, QUICK_SPREAD, QUICK_PART = (900,), (900,), (400,), (900,)
WIDTH = 128
A_CENTRE, NOISE = 10, 0.5
FEW = 50  # rows of a first call, which loads libraries
LEAST = 0.97
COMPARED = 100_000  # rows up to which neighbours are kept, to compare
COLUMNS = (
    Column("side", "side"),
    Column("rows", "rows", ",d"),
    Column("clusters", "clusters", ",d"),
    Column("lists", "lists", ",d"),
    Column("looked at", "probes", ",d"),
    Column("recall", "recall", ".4f"),
    Column("as exact", "as_exact", ".4f"),
    *COST_COLUMNS,
    Column("growth", "growth", ".2f"),
)
Rows = npt.NDArray[np.float32]


class Job(NamedTuple):
    """A number of rows, and how they are searched: `exact`, `part`, `IVF`, `IVF, no clusters`."""

    count: int
    side: str


class Answer(NamedTuple):
    """Result of one side: clusters (None if only an index is made), neighbours, and the index."""

    clusters: int | None
    neighbours: npt.NDArray[np.int64] | None
    index: dict[str, Any]
    took: Spent


def clustered_rows(count: int, width: int, *, seed: int = 0, drawn: int | None = None) -> Rows:
    """Return `drawn` of `(count, width)` rows around `count / 10` fixed centres."""
    random = np.random.default_rng(seed + 1)
    centres = np.random.default_rng(0).standard_normal(
        (max(count // A_CENTRE, 1), width), dtype=np.float32
    )
    rows = random.standard_normal((drawn or count, width), dtype=np.float32)
    rows *= np.float32(NOISE)
    rows += centres[random.integers(len(centres), size=len(rows))]
    return rows


def answered(job: Job) -> Answer:
    """Run one side at one size."""
    rows = clustered_rows(job.count, WIDTH)
    return clustered(rows, job) if job.side in ("exact", "IVF") else searched(rows, job)


def searched(rows: Rows, job: Job) -> Answer:
    """Run a side without clusters: neighbours of some rows, or an index of random numbers."""
    if job.side == "IVF, no clusters":
        rows = np.random.default_rng(0).standard_normal(rows.shape, dtype=np.float32)
    unit = unit_float32(rows, name="rows")
    nearest_units(unit[:FEW], unit[:FEW], k=2)
    if job.side == "part":
        _, took = spent(lambda: nearest_units(unit[:ROWS_OF_PART], unit, k=2))
        return Answer(None, None, {}, took)
    lists, took = spent(lambda: build_ivf_index(unit, k=1))
    return Answer(None, None, facts(lists), took)


def clustered(rows: Rows, job: Job) -> Answer:
    """Run FINCH with timing, and search its neighbours again without timing."""
    ivf.APPROXIMATE_FROM = 2 if job.side == "IVF" else math.inf
    finch(rows[:FEW], say=str)
    kept: dict[str, Any] = {}

    def build(units: Rows, **how: Any) -> Any:
        lists = build_ivf_index(units, **how)
        kept.update(facts(lists))
        return lists

    ivf.build_ivf_index = build
    labels, took = spent(lambda: finch(rows, say=say))
    neighbours = None
    if job.count <= COMPARED:
        neighbours = first_neighbours_of(unit_float32(rows, name="rows"), say=str)
    return Answer(len(np.unique(labels)), neighbours, kept, took)


def facts(lists: Any) -> dict[str, Any]:
    """Return the facts about an index that are in the table."""
    return {"lists": len(lists.centres), "probes": lists.probes, "recall": lists.recall}


def measured(sizes: dict[str, tuple[int, ...]]) -> list[Row]:
    """Return a row for each side and size."""
    table: list[Row] = []
    exact: dict[int, npt.NDArray[np.int64] | None] = {}
    for side, counts in sizes.items():
        for count in counts:
            say(f"{count:,} rows, {side}")
            answer = alone(answered, Job(count, side))
            row: Row = {"side": side, "rows": count, "clusters": answer.clusters}
            row |= {"lists": None, "probes": None, "recall": None, **answer.index}
            row |= {"as_exact": None, "growth": None, **costs([answer.took])}
            if side == "exact":
                exact[count] = answer.neighbours
            elif answer.neighbours is not None and (known := exact.get(count)) is not None:
                row["as_exact"] = float((answer.neighbours == known).mean())
            if count != counts[0]:
                row["growth"] = growth(table[-1], row)
            table.append(row)
    return table


def growth(before: Row, after: Row) -> float:
    """Return the exponent with which the CPU time grows with the number of rows."""
    return math.log(after["cpu_seconds"] / before["cpu_seconds"]) / math.log(
        after["rows"] / before["rows"]
    )


def numbers(text: str | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Parse sizes separated by commas."""
    if text is None:
        return default
    try:
        return tuple(sorted({int(number) for number in text.split(",") if number}))
    except ValueError:
        refuse(f"{text}: give whole numbers with commas, such as 10000,100000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--exact", metavar="N,N,...", help="sizes of the exact side")
    parser.add_argument("--ivf", metavar="N,N,...", help="sizes of the IVF index")
    parser.add_argument(
        "--part", metavar="N,N,...", help="sizes at which only some rows are searched"
    )
    options = parser.parse_args()
    quick = options.quick
    sizes = {
        "exact": numbers(options.exact, QUICK_EXACT if quick else EXACT),
        "part": numbers(options.part, QUICK_PART if quick else PART),
        "IVF": numbers(options.ivf, QUICK_IVF if quick else IVF),
        "IVF, no clusters": QUICK_SPREAD if quick else SPREAD,
    }
    table = measured(sizes)
    about = machine(threads=1, width=WIDTH, **versions("finch", "faiss", "numpy"))
    if options.json:
        show_json(about, sides=table)
    else:
        show(table, COLUMNS, about)
    if any(row["as_exact"] is not None and row["as_exact"] < LEAST for row in table):
        sys.exit("the IVF index finds too few of the exact first neighbours")


if __name__ == "__main__":
    main()
