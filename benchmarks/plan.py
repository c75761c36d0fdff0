"""What `slic plan` says that a data set takes, against what it takes.

    python benchmarks/plan.py [--quick] [--json] [--epochs 15] [DATASET]

`slic plan DATASET` for one core (preset cpu-small), then `slic prep frames`, `slic prep flow`,
`slic train` and `slic eval retrieve` in a folder aside, one process or thread each, and `slic plan`
once more; predicted is the mean of both. Taken is the processor time of all processes of a command.
Bytes are those that the store's files take on disk. Without DATASET, clips are drawn. `--quick`
ends with flow, and takes the rates of another machine: only amounts and bytes can agree.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import Column, Row, machine, say, show, show_json
from measured import run_measured

from slic.demo.drawn import draw_dataset

RATES = Path(__file__).parent / "results" / "rates-epyc.json"
DRAWN = {"actions": 4, "groups": 5, "clips": 2, "frames": 60, "size": (320, 240)}
QUICK_DRAWN = {"actions": 2, "groups": 2, "clips": 1, "frames": 20, "size": (64, 48)}
ONE_WORKER = ("--workers", "1")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
COLUMNS = (
    Column("what", "what"),
    Column("predicted", "predicted", ",.1f"),
    Column("taken", "taken", ",.1f"),
    Column("predicted / taken", "ratio", ".2f"),
)


def slic(*words: str) -> tuple[Any, float]:
    """What a command on one thread prints as JSON, and the processor time that it took."""
    say(f"slic {' '.join(words[:2])}")
    done = run_measured([sys.executable, "-m", "slic.cli", *words, "--json"])
    return json.loads(done.stdout), done.cpu_seconds


def planned(dataset: str, epochs: int, *more: str) -> dict[str, float]:
    """Seconds and amounts by name."""
    options = ("--gpus", "0", "--cores", "1", "--epochs", str(epochs), *more)
    told, _ = slic("plan", dataset, "--preset", "cpu-small", *options)
    seconds = {stage["name"]: stage["seconds"] for stage in told["stages"]}
    return {
        "frames, s": seconds["frames"],
        "flow, s": seconds["flow"],
        "training, s": seconds["train"] + seconds["embed"] + seconds["cluster"],
        "evaluation, s": seconds["evaluate"],
        **{f"{view}, MB": told["bytes"][view] / 1e6 for view in ("frames", "flow")},
        "frames": told["data"]["frames"],
    }


def prepared(dataset: str) -> dict[str, float]:
    """The same of preparation, done."""
    frames, frames_s = slic("prep", "frames", dataset, "--store", "x.zarr", *ONE_WORKER)
    _, flow_s = slic("prep", "flow", "x.zarr", *ONE_WORKER)
    return {
        "frames, s": frames_s,
        "flow, s": flow_s,
        "frames, MB": on_disk(Path("x.zarr") / "frames") / 1e6,
        "flow, MB": on_disk(Path("x.zarr") / "flow") / 1e6,
        "frames": frames["frames"],
    }


def trained(epochs: int) -> dict[str, float]:
    """The same of training and evaluation."""
    options = ("--preset", "cpu-small", "--device", "cpu", "--epochs", str(epochs))
    _, training_s = slic("train", "x.zarr", "--run", "run", *options, *ONE_WORKER)
    _, evaluation_s = slic("eval", "retrieve", "--run", "run", "--device", "cpu")
    return {"training, s": training_s, "evaluation, s": evaluation_s}


def on_disk(folder: Path) -> int:
    """Bytes that the files below take, in whole blocks."""
    found = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_blocks * 512 for path in found)


def rows_of(dataset: str | None, epochs: int, *, quick: bool) -> list[Row]:
    """Predict, do, predict again, in a folder aside."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if dataset is None:
            draw_dataset(Path("drawn"), **(QUICK_DRAWN if quick else DRAWN))
        found = dataset or "drawn"
        rates = ("--rates", str(RATES)) if quick else ()
        first, done = planned(found, epochs, *rates), prepared(found)
        done |= {} if quick else trained(epochs)
        last = first if quick else planned(found, epochs)
    rows: list[Row] = []
    for what, value in done.items():
        predicted = (first[what] + last[what]) / 2
        ratio = predicted / value
        rows.append({"what": what, "predicted": predicted, "taken": value, "ratio": ratio})
    return rows


def main() -> None:
    """Predict and do, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("--quick", action="store_true", help="few clips; check amounts")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    dataset = options.dataset and os.path.abspath(options.dataset)
    before = os.getloadavg()[0]
    os.environ |= ONE_THREAD
    rows = rows_of(dataset, options.epochs, quick=options.quick)
    facts = machine(load=f"{before:.1f} to {os.getloadavg()[0]:.1f}")
    if options.json:
        show_json(facts, rows=rows)
    else:
        show(rows, COLUMNS, facts)


if __name__ == "__main__":
    main()
