"""A longer run with the paper's loss, on drawn video: recall of test videos by steps."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import Column, Row, show
from drawn import METHODS, prepare

from gpu_parts import Day

SIZES = {"groups": 12, "clips": 2}
TINY = {"groups": 4, "clips": 1, "frames": 20, "actions": 3}
# Small clips, so that there are many steps.
SMALL = {"frames": 8, "size": 64, "epochs": 100_000}
REHEARSED = {"frames": 4, "stride": 1, "size": 16, "batch_size": 4, "epochs": 4, "cluster_every": 2}
RESERVED_S = 12.0  # for the run to save what it has
RUN = "gpu-day"
COLUMNS = (
    Column("epoch", "epoch"),
    Column("step", "step"),
    Column("clusters", "clusters"),
    Column("NMI", "nmi", ".3f"),
    Column("recall at 1", "test_recall_at_1", ".3f"),
)


def training(day: Day) -> Iterator[Row]:
    """Train until the time is over, or for a few epochs in a rehearsal."""
    over = time.monotonic() + day.seconds - RESERVED_S
    os.chdir(day.folder)
    store = prepare(**(TINY if day.rehearse else SIZES))
    changes = {**METHODS["triplet-paper"], **(REHEARSED if day.rehearse else SMALL)}
    words = [f"--set={name}={value}" for name, value in changes.items()]
    train = [sys.executable, "-m", "slic", "train", store, "--run", RUN, "--preset", day.preset]
    with open("train.log", "w") as log:
        child = subprocess.Popen(
            [*train, "--device", day.device, *words], stdout=log, stderr=subprocess.STDOUT
        )
        rows: list[Row] = []
        while child.poll() is None and time.monotonic() < over:
            time.sleep(1)
            rows = clusterings(Path("runs") / RUN / "metrics.jsonl")
            yield {"settings": changes, "clusterings": rows, "figures": _figures(rows)}
        stopped = child.poll() is None
        if stopped:
            child.send_signal(signal.SIGINT)
    code = child.wait()
    sys.stderr.write(Path("train.log").read_text()[-4000:])
    rows = clusterings(Path("runs") / RUN / "metrics.jsonl")
    yield {"clusterings": rows, "figures": _figures(rows)}
    show(rows, COLUMNS, {})
    if not rows or (code and not stopped):
        raise SystemExit(f"slic train: exit code {code}, {len(rows)} clusterings")


def clusterings(metrics: Path) -> list[Row]:
    """Read the clusterings of a run so far, with recall of its test videos."""
    if not metrics.is_file():
        return []
    lines = [line for line in metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
    records = [json.loads(line) for line in lines]
    return [
        {**record, "test_recall_at_1": (record["test_recall"] or {}).get("1")}
        for record in records
        if record["kind"] == "clustering"
    ]


def _figures(rows: list[Row]) -> list[str]:
    found = [row for row in rows if row["test_recall_at_1"] is not None]
    if not found:
        return []
    first, last = (found[i]["test_recall_at_1"] for i in (0, -1))
    return [f"recall at 1 {first:.3f}, after {found[-1]['step']:,} steps {last:.3f}"]
