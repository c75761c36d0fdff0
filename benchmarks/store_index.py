"""The index of a large clip store: slic's compared with a JSON file of the same rows.

    python benchmarks/store_index.py [--quick] [--json]

240,000 simulated videos, no arrays. Each side in turn in a fresh process, modules loaded before
the clock starts and the files in the system's cache: opening, up to the row of one video; a digest
of what is held; and the list of all rows as entries. By then the JSON side has read them all, when
it opened. Medians; the ratio is of CPU times. Peak memory is of the whole process, at the end of
each. Exits if the two sides' answers differ.
"""

import argparse
import hashlib
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from alone import COST_COLUMNS, MB, Spent, alone, costs, spent
from common import Column, Row, machine, say, show, show_json

from slic.cache import ClipStore, Entry, video_key
from slic.cache.clipstore import DIGESTED
from slic.cache.entries import COLUMNS as FIELDS

VIDEOS, QUICK_VIDEOS = 240_000, 2_000
CLASSES = 400
ROUNDS, QUICK_ROUNDS = 5, 1
STEPS = ("open", "digest", "list")
COLUMNS = (
    Column("step", "step"),
    Column("side", "side"),
    *COST_COLUMNS,
    Column("ratio", "ratio", ".1f"),
)
Answers = list[tuple[Any, Spent]]


def video_id(number: int) -> str:
    """Return an id like those of Kinetics."""
    start = number * 7 % 300
    return f"class {number % CLASSES:03d}/v{number:09d}_{start:06d}_{start + 10:06d}.mp4"


def simulated(number: int) -> Entry:
    """Return a row as `slic prep flow` writes it."""
    name = video_id(number)
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return Entry(
        id=name,
        key=video_key(name),
        path=name,
        label=name.split("/")[0],
        group=None,
        split1="test" if number % 12 == 0 else "train",
        split2=None,
        split3=None,
        frames=250 + number % 51,
        height=128,
        width=170,
        fps=29.97,
        settings=digest[:16],
        source_bytes=500_000 + number,
        source_mtime_ns=1_700_000_000_000_000_000 + number,
        source_digest=digest,
        flow=digest[16:],
    )


def write_both(count: int, folder: Path) -> tuple[Path, Path]:
    """Make a store with `count` rows in its index, and a JSON file of the same rows."""
    entries = [simulated(number) for number in range(count)]
    store = ClipStore.create(folder / "large.zarr")
    with sqlite3.connect(store.index.path) as connection:  # all at once, where `put` syncs each
        names = ", ".join(f'"{name}"' for name in FIELDS)
        sql = f"INSERT INTO videos ({names}) VALUES ({', '.join('?' * len(FIELDS))})"
        connection.executemany(sql, map(astuple, entries))
    connection.close()
    file = folder / "index.json"
    file.write_text(json.dumps([asdict(entry) for entry in sorted(entries, key=lambda e: e.id)]))
    return store.path, file


def slic_side(path: Path) -> Answers:
    """Return answers and cost of each step with slic's index."""
    wanted = video_id(7)

    def opened() -> tuple[ClipStore, Entry]:
        store = ClipStore(path)
        return store, store.entry(wanted)

    (store, entry), opening = spent(opened)
    answers = [(entry, opening), spent(store.digest), spent(store.entries)]
    return _condensed(answers)


def json_side(path: Path) -> Answers:
    """Return answers and cost of each step with the JSON file."""
    wanted = video_id(7)

    def opened() -> tuple[dict[str, dict], Entry]:
        rows = {row["id"]: row for row in json.loads(path.read_bytes())}
        return rows, Entry(**rows[wanted])

    def digest() -> str:
        content = hashlib.blake2b(digest_size=4)
        for row in rows.values():
            content.update(repr(tuple(row[name] for name in DIGESTED)).encode())
        return content.hexdigest()

    (rows, entry), opening = spent(opened)
    listing = spent(lambda: [Entry(**row) for row in rows.values()])
    return _condensed([(entry, opening), spent(digest), listing])


def _condensed(answers: Answers) -> Answers:
    """Return a digest of the entries, which is smaller to pass between processes."""
    entries, took = answers[-1]
    content = hashlib.blake2b()
    for entry in entries:
        content.update(repr(entry).encode())
    return [*answers[:-1], (content.hexdigest(), took)]


def together(took: list[Spent]) -> Spent:
    """Combine successive steps into one."""
    seconds, cpu_seconds = (sum(column) for column in list(zip(*took, strict=True))[:2])
    return Spent(seconds, cpu_seconds, took[0].before_bytes, took[-1].peak_bytes)


def compare(files: dict[str, Path], rounds: int) -> tuple[list[Row], bool]:
    """Run all steps of both sides, and compare their answers."""
    sides: dict[str, Callable[[Path], Answers]] = {"JSON": json_side, "slic": slic_side}
    answers: dict[str, list[Answers]] = {name: [] for name in sides}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, side in sides.items():
            answers[name].append(alone(side, files[name]))
    rows = []
    for step in (*STEPS, "all"):
        chosen = slice(None) if step == "all" else slice(STEPS.index(step), STEPS.index(step) + 1)
        for name, given in answers.items():
            took = [together([cost for _, cost in one[chosen]]) for one in given]
            rows.append({"step": step, "side": name, **costs(took), "ratio": None})
        rows[-1]["ratio"] = rows[-2]["cpu_seconds"] / rows[-1]["cpu_seconds"]
    said = {tuple(answer for answer, _ in given) for both in answers.values() for given in both}
    return rows, len(said) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    count, rounds = (QUICK_VIDEOS, QUICK_ROUNDS) if options.quick else (VIDEOS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing {count:,} rows")
        store, file = write_both(count, Path(folder))
        sizes = {"JSON": file.stat().st_size, "slic": ClipStore(store).size_bytes()}
        rows, same = compare({"JSON": file, "slic": store}, rounds)
    megabytes = {f"{name} MB": round(size / MB, 1) for name, size in sizes.items()}
    facts = machine(threads=1, videos=count, **megabytes, sqlite=sqlite3.sqlite_version)
    if options.json:
        show_json(facts, steps=rows, same_answers=same, ratio=rows[1]["ratio"])
    else:
        show(rows, COLUMNS, facts)
    if not same:
        sys.exit("the two sides' answers differ")


if __name__ == "__main__":
    main()
