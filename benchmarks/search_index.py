"""The saved index of `slic search`: opened, compared with built again for each search.

    python benchmarks/search_index.py [--quick] [--json]

Embedding caches of 10,000, 100,000 and 1,000,000 rows of 128 numbers, drawn as in
neighbours_at_size.py. A search opens the cache, gets an index of its rows, and finds the 10 nearest
of one query; then of 100. An index made anew is exact; from a million rows, the kept one is an IVF
index. Sides in turn, each in a fresh process on one thread, libraries loaded before the clock
starts; medians of CPU time, files in the page cache. The ratio is of index and one query, at the
most rows; "with open" of all three. Exits if the answers of exact indexes differ, those of an IVF
index by a fifth, or the index is not the one kept.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from alone import MB, alone, memory
from clustering import versions
from common import Column, Row, machine, say, show, show_json
from neighbours_at_size import clustered_rows

from slic.cache import EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.neighbours.exact import nearest_units, unit_float32
from slic.neighbours.ivf import IvfIndex, approximate
from slic.neighbours.saved_index import index_path, unit_rows

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (50, 300)
WIDTH, K, MANY = 128, 10, 100
LEAST = 0.8  # of the exact answers, that an IVF index must find
ROUNDS, QUICK_ROUNDS = 3, 1
SIDES = ("made anew", "made and kept", "kept")
COLUMNS = (
    Column("rows", "rows", ","),
    Column("side", "side"),
    Column("open cache s", "open_s", ".3f"),
    Column("index s", "index_s", ".3f"),
    Column("query ms", "query_ms", ".1f"),
    Column("100 queries ms", "many_ms", ".1f"),
    Column("peak MB", "peak_mb", ".0f"),
    Column("as exact", "recall", ".4f"),
    Column("ratio", "ratio", ".1f"),
    Column("with open", "whole_ratio", ".1f"),
)


class Job(NamedTuple):
    """One search: which cache, and how it gets its index."""

    cache: Path
    count: int
    side: str


class Answer(NamedTuple):
    """Neighbours `(100, 10)`, seconds of each step, and peak memory in bytes."""

    neighbours: npt.NDArray[np.int64]
    times: tuple[float, float, float, float]
    peak_bytes: int
    made: int


def queries(count: int) -> npt.NDArray[np.float32]:
    """Generate queries like the rows of a cache, around the same centres."""
    return unit_float32(clustered_rows(count, WIDTH, seed=1, drawn=MANY), name="queries")


def write(job: tuple[Path, int]) -> None:
    """Write a cache of `count` rows."""
    path, count = job
    rows = clustered_rows(count, WIDTH)
    write_embeddings(
        path,
        [f"class {number % 400}/video {number:07d}" for number in range(count)],
        backbone=rows,
        projection=rows,
        labels=[None] * count,
        splits={},
        attributes={},
    )


def searched(job: Job) -> Answer:
    """Run one side at one size."""
    asked = queries(job.count)
    nearest_units(asked[:1], asked, k=K)  # loads libraries
    if job.side == "made and kept":
        index_path(job.cache, "backbone").unlink(missing_ok=True)
    marks = [time.process_time()]
    cache = EmbeddingCache(job.cache)
    marks.append(time.process_time())
    if job.side == "made anew":
        units = unit_float32(cache.backbone, name="rows")
    else:
        units = unit_rows(cache, "backbone", say=say)
    search = units.nearest if isinstance(units, IvfIndex) else partial(nearest_units, units=units)
    marks.append(time.process_time())
    search(asked[:1], k=K)
    marks.append(time.process_time())
    neighbours = search(asked, k=K)[1]
    marks.append(time.process_time())
    index = index_path(job.cache, "backbone")
    made = index.stat().st_mtime_ns if index.exists() else 0
    steps = tuple(end - begin for begin, end in itertools.pairwise(marks))
    return Answer(neighbours, steps, memory("VmHWM"), made)


def measured(cache: Path, count: int, rounds: int) -> tuple[list[Row], bool]:
    """Return a row for each side, and whether answers are equal and the index was saved."""
    found: dict[str, list[Answer]] = {side: [] for side in SIDES}
    agree = True
    for number in range(rounds):
        say(f"{count:,} rows, round {number + 1} of {rounds}")
        anew, first, kept = (alone(searched, Job(cache, count, side)) for side in SIDES)
        for answer, side in zip((anew, first, kept), SIDES, strict=True):
            found[side].append(answer)
            agree &= recall(answer, anew) >= (LEAST if approximate(count) else 1)
        # Only an IVF index is saved: normalising the rows takes less than reading them.
        agree &= kept.made == first.made and (first.made > 0) == approximate(count)
    rows = []
    for side, answers in found.items():
        opened, index, one, many = (
            statistics.median(times) for times in zip(*(a.times for a in answers), strict=True)
        )
        rows.append(
            {
                "rows": count,
                "side": side,
                "open_s": opened,
                "index_s": index,
                "query_ms": 1000 * one,
                "many_ms": 1000 * many,
                "recall": recall(answers[-1], found["made anew"][-1]),
                "peak_mb": max(answer.peak_bytes for answer in answers) / MB,
            }
        )
    for row in rows:
        row["ratio"] = _search_s(rows[0]) / _search_s(row)
        whole = [each["open_s"] + _search_s(each) for each in (rows[0], row)]
        row["whole_ratio"] = whole[0] / whole[1]
    return rows, agree


def recall(some: Answer, exact: Answer) -> float:
    """Return the share of the exact neighbours that were found."""
    found = some.neighbours[:, :, None] == exact.neighbours[:, None, :]
    return float(found.any(axis=1).mean())


def _search_s(row: Row) -> float:
    return row["index_s"] + row["query_ms"] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if options.quick else (SIZES, ROUNDS)
    rows: list[Row] = []
    agree = True
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) / "drawn.h5"
            alone(write, (cache, count))
            found, same = measured(cache, count, rounds)
        rows += found
        agree &= same
    facts = machine(threads=1, width=WIDTH, k=K, **versions("faiss", "numpy"))
    if options.json:
        show_json(facts, sides=rows, same_answers=agree, ratio=rows[-1]["ratio"])
    else:
        show(rows, COLUMNS, facts)
    if not agree:
        sys.exit("answers differ, or the index was not saved")


if __name__ == "__main__":
    main()
