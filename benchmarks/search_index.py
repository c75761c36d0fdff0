"""The kept index of `slic search`: opened, against made anew for each search.

    python benchmarks/search_index.py [--quick] [--json]

Embedding caches of 10,000, 100,000 and 1,000,000 drawn rows of 128 numbers. A search opens the
cache, gets an index of its rows, and finds the 10 nearest of one query; then of 100. Sides in
turn, each in a fresh process on one thread, libraries loaded before the clock starts; medians of
CPU time, files in the page cache. The ratio is of index and one query, at the most rows; "with
open" of all three. Exits if the answers differ, or the index is not the one kept.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from alone import MB, alone, memory
from clustering import versions
from common import Column, Row, machine, say, show, show_json

from slic.cache import EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.kept_index import index_path, unit_rows
from slic.neighbours import nearest_units, unit_float32

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (50, 300)
WIDTH, K, MANY = 128, 10, 100
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
    Column("ratio", "ratio", ".1f"),
    Column("with open", "whole_ratio", ".1f"),
)


class Job(NamedTuple):
    """One search: of which cache, and how its index is come by."""

    cache: Path
    side: str


class Answer(NamedTuple):
    """Neighbours (100, 10), the times of each step in seconds, and peak memory in bytes."""

    neighbours: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    times: tuple[float, float, float, float]
    peak_bytes: int
    made: int


def queries() -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((MANY, WIDTH), dtype=np.float32)
    return unit_float32(rows, name="queries")


def write(job: tuple[Path, int]) -> None:
    """A cache of so many rows."""
    path, count = job
    rows = np.random.default_rng(0).standard_normal((count, WIDTH), dtype=np.float32)
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
    """One side of one size."""
    asked = queries()
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
    marks.append(time.process_time())
    nearest_units(asked[:1], units, k=K)
    marks.append(time.process_time())
    similarity, neighbours = nearest_units(asked, units, k=K)
    marks.append(time.process_time())
    index = index_path(job.cache, "backbone")
    made = index.stat().st_mtime_ns if index.exists() else 0
    steps = tuple(end - begin for begin, end in itertools.pairwise(marks))
    return Answer(neighbours, similarity, steps, memory("VmHWM"), made)


def measured(cache: Path, count: int, rounds: int) -> tuple[list[Row], bool]:
    """A row for each side, and whether all answers were the same and the index was kept."""
    found: dict[str, list[Answer]] = {side: [] for side in SIDES}
    agree = True
    for number in range(rounds):
        say(f"{count:,} rows, round {number + 1} of {rounds}")
        anew, first, kept = (alone(searched, Job(cache, side)) for side in SIDES)
        for answer, side in zip((anew, first, kept), SIDES, strict=True):
            found[side].append(answer)
            agree &= bool((answer.neighbours == anew.neighbours).all())
            agree &= bool((answer.similarity == anew.similarity).all())
        agree &= kept.made == first.made > 0
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
                "peak_mb": max(answer.peak_bytes for answer in answers) / MB,
            }
        )
    for row in rows:
        row["ratio"] = _search_s(rows[0]) / _search_s(row)
        whole = [each["open_s"] + _search_s(each) for each in (rows[0], row)]
        row["whole_ratio"] = whole[0] / whole[1]
    return rows, agree


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
        sys.exit("answers differ, or the index was not kept")


if __name__ == "__main__":
    main()
