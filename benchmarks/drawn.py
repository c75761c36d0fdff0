"""Recall on generated videos: random weights, no clusters, SLIC and true labels, at equal steps.

    python benchmarks/drawn.py --folder FOLDER [--seeds 0,1,2] [--json]

Draws and prepares a data set, larger than the demo's, once in FOLDER (or takes the one there),
trains each method with each seed on it, and prints recall at 1 of the test groups. Run again, it
goes on where it was. `--quick` checks on a tiny set that it all runs; its figures mean nothing.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from slic.demo.demo import random_recall
from slic.demo.drawn import draw_dataset
from slic.eval.retrieve import retrieve
from slic.prep.flow import prep_flow
from slic.runs import open_run
from slic.train.run import train

METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "none": {"cluster": "none"},
    "slic": {"cluster": "finch"},
    "slic-no-warmup": {"cluster": "finch", "warmup_epochs": 0},
    "labels": {"cluster": "labels"},
    "triplet": {"objective": "triplet", "cluster": "finch"},
    "triplet-none": {"objective": "triplet", "cluster": "none"},
    "triplet-paper": {
        "objective": "triplet",
        "cluster": "finch",
        "warmup_epochs": 0,
        "optimiser": "sgd",
        "lr": 0.1,
        "momentum": 0.5,
        "weight_decay": 0.0,
        "schedule": "constant",
    },
}

# UCF101 has 25 groups; flow of the drawn figures seldom exceeds the bound.
GROUPS, CLIPS, FRAMES, SIZE, BOUND_PX = 25, 4, 32, (128, 96), 3.0
QUICK = {"groups": 4, "frames": 20, "actions": 3}


def say(line: str) -> None:
    """Print progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def prepare(**smaller: int) -> str:
    """Generate the data set, or a smaller one, and prepare it as a store in the current folder."""
    chosen = {"groups": GROUPS, "clips": CLIPS, "frames": FRAMES, **smaller}
    draw_dataset(Path("ucf101"), size=SIZE, **chosen)
    prep_flow("ucf101", bound=BOUND_PX)
    return "ucf101.zarr"


def measure(store: str, method: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Train one method with one seed, unless that has been done, and evaluate it."""
    if method == "random":
        return {"recall": random_recall(store, seed, "cpu"), "steps": 0, "seconds": 0.0}
    begin = time.monotonic()
    options = {**METHODS[method], "seed": seed, **changes}
    name = f"{method}-{seed}-" + "-".join(f"{k}={v}" for k, v in changes.items())
    result = train(store, preset="cpu-small", options=options, run=name, device="cpu", say=say)
    recall = retrieve(open_run(Path("runs") / name), ks=(1, 5), say=say)["recall"]
    seconds = round(time.monotonic() - begin, 1)
    nmi = result["nmi"]
    return {"recall": recall, "steps": result["steps"], "seconds": seconds, "nmi": nmi}


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("slic-drawn"))
    parser.add_argument("--store", help="a store that is there already")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default="random,none,slic,labels,triplet")
    parser.add_argument("--set", action="append", default=[], help="setting=value for all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    changes = {k: json.loads(v) for k, v in (item.split("=", 1) for item in given.set)}
    if given.quick:
        changes |= {"epochs": 2, "warmup_epochs": 1, "batch_size": 8}
    given.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(given.folder)
    store = given.store or prepare(**(QUICK if given.quick else {}))
    seeds = [0] if given.quick else [int(seed) for seed in given.seeds.split(",")]
    rows = {}
    for method in given.methods.split(","):
        rows[method] = [measure(store, method, seed, changes) for seed in seeds]
        ones = [row["recall"]["1"] for row in rows[method]]
        say(f"{method}: {' '.join(f'{one:.3f}' for one in ones)}")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    if given.json:
        print(json.dumps({"seeds": seeds, "rows": rows, "versions": versions}))
        return
    print(f"{'method':16} {'steps':>6} {'R@1 mean':>9}  each seed")
    for method, row in rows.items():
        ones = [r["recall"]["1"] for r in row]
        each = " ".join(f"{one:.3f}" for one in ones)
        print(f"{method:16} {row[0]['steps']:6d} {statistics.mean(ones):9.3f}  {each}")
    print(f"versions: {versions}, threads {torch.get_num_threads()}")


if __name__ == "__main__":
    main()
