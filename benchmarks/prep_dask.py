"""`slic prep flow` on a Dask cluster of this machine, by 1 and 2 workers, and without Dask.

    python benchmarks/prep_dask.py [--quick] [--json] [--workers 1 2] [VIDEO_OR_FOLDER ...]

Each side starts from the same files, and makes a new store; all must come to the same bytes. A
scheduler and its workers are started for each number of workers, and have done a few videos
before the measured ones, so that what they load and compile does not count; without Dask, the
processes start within the time. `ratio` is that of pairs a second to those by the fewest workers
of the cluster. --quick takes few and small videos; its speeds mean nothing.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import Column, Row, machine, refuse, show, show_json, video_files
from distributed import __version__ as dask_version
from measured import run_measured
from prep_flow import ENGINE, drawn_files, linked

from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset

STARTS_S = 60.0
COLUMNS = (
    Column("side", "side"),
    Column("workers", "workers"),
    Column("pairs", "pairs"),
    Column("seconds", "seconds", ".1f"),
    Column("pairs/s", "pairs_per_s", ".1f"),
    Column("ratio", "ratio", ".2f"),
)


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler and workers of one thread each, in processes of their own; its address."""
    found = folder / "scheduler.json"
    where = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(found)]
    processes = [_start(folder, "scheduler", *where)]
    try:
        until = time.monotonic() + STARTS_S
        while not found.exists():
            if time.monotonic() > until:
                refuse(f"no scheduler after {STARTS_S:g} s")
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
        processes += [
            _start(folder, "worker", address, "--nthreads", "1", "--no-nanny")
            for _ in range(workers)
        ]
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start(folder: Path, kind: str, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def prepared(videos: Path, store: Path, *how: str) -> Row:
    """`slic prep flow` of a folder into a new store: seconds of its own, and pairs a second."""
    words = ["prep", "flow", str(videos), "--store", str(store), "--engine", ENGINE, "--json", *how]
    result = json.loads(run_measured([sys.executable, "-m", "slic.cli", *words]).stdout)
    pairs, seconds = result["frames"], result["seconds"]
    return {"pairs": pairs, "seconds": seconds, "pairs_per_s": pairs / seconds}


def content(store: Path) -> str:
    """Digest of all that a store holds: rows, and bytes of frames and flow."""
    digest = hashlib.sha256(ClipStore(store).digest(flow=True).encode())
    for view in ("frames", "flow"):
        for file in sorted((store / view).rglob("*")):
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()


def compare(files: Sequence[Path], folder: Path, counts: Sequence[int]) -> list[Row]:
    """A row for each number of workers, of the cluster and without one; all stores are equal."""
    linked(files, folder / "videos")
    draw_dataset(folder / "few", actions=2, groups=2, clips=2, frames=6, size=(48, 32))
    rows, digests = [], set()
    for workers in counts:
        with cluster(folder, workers) as address:
            wait = folder / f"few-{workers}.zarr"
            prepared(folder / "few", wait, "--scheduler", address)
            store = folder / f"dask-{workers}.zarr"
            found = prepared(folder / "videos", store, "--scheduler", address)
        rows.append({"side": "cluster", "workers": workers, **found})
        digests.add(content(store))
        (folder / "scheduler.json").unlink()
    for workers in counts:
        store = folder / f"here-{workers}.zarr"
        found = prepared(folder / "videos", store, "--workers", str(workers))
        rows.append({"side": "without Dask", "workers": workers, **found})
        digests.add(content(store))
    if len(digests) > 1:
        sys.exit("the stores differ")
    for row in rows:
        row["ratio"] = row["pairs_per_s"] / rows[0]["pairs_per_s"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO_OR_FOLDER")
    parser.add_argument("--quick", action="store_true", help="few and small videos")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        files = video_files(options.videos) or drawn_files(folder / "drawn", quick=options.quick)
        rows = compare(files, folder, options.workers)
    facts = machine(cores=len(os.sched_getaffinity(0)), videos=len(files), dask=dask_version)
    if options.json:
        show_json(facts, sides=rows, ratio=rows[len(options.workers) - 1]["ratio"])
    else:
        show(rows, COLUMNS, facts)


if __name__ == "__main__":
    main()
