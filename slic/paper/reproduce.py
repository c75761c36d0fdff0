"""`slic reproduce`: train and measure the SLIC rows of the paper's tables."""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.demo.demo import FOLDER, STORE, PrefixedLines, drawn_store, inside
from slic.errors import InputError, SlicError, StoreError
from slic.eval.classify import classify
from slic.eval.recipe import Mode
from slic.eval.retrieve import retrieve
from slic.paper.comparison import compared, write_comparison
from slic.published import TABLES, Row, TableName
from slic.runs import RUNS, open_run
from slic.runtime.devices import pick_device
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import format_duration
from slic.train.outcome import is_done
from slic.train.run import compute_options, train
from slic.train.training import expected_seconds
from slic.train.training_set import training_entries

Scale = Literal["demo", "paper"]
Figures = dict[str, float]  # fractions by column
# The demo has a hundredth of UCF101's videos: fewer epochs, and less dropout than the paper's.
DEMO_CLASSIFIER = {"epochs": 30, "dropout": 0.5}
KS = (1, 5)
# Where the store of each data set is looked for; the option `--<name>` gives another path.
STORES = {"UCF101": "ucf101.zarr", "HMDB51": "hmdb51.zarr", "K400": "kinetics400.zarr"}


@dataclass(frozen=True)
class Job:
    """Training and evaluation for one row of a table and one seed.

    Attributes:
        row: Number of the row in the table.
        seed: Seed of the training.
        preset: Preset of its settings.
        options: Settings that differ from the preset's.
        store: Store to train on.
        targets: Stores to measure on, by data set.
        mode: Mode of classification; None for retrieval.
        classifier: Options of `classify`.
        device: Device to compute on.
        threads: Threads of the training; None for all.
    """

    row: int
    seed: int
    preset: str
    options: dict[str, Any]
    store: str
    targets: dict[str, str]
    mode: Mode | None
    classifier: dict[str, Any]
    device: str
    threads: int | None

    @property
    def settings(self) -> Settings:
        """Settings of the training."""
        return make_settings(self.preset, options={**self.options, "seed": self.seed})

    @property
    def run(self) -> str:
        """Name of the run; jobs of the same settings and store share it, in all tables."""
        text = json.dumps([_content_of(self.store), self.settings.as_dict()], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return f"reproduce-{self.settings.encoder}-{digest}"


@cache
def _content_of(store: str) -> str:
    """Return a store's name and the digest of its content, for any spelling of its path."""
    clips = ClipStore(store)
    return f"{clips.path.resolve().name} {clips.digest(flow=True)}"


def reproduce(
    table: TableName,
    *,
    scale: Scale = "demo",
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    folder: str = FOLDER,
    stores: Mapping[str, str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make the SLIC rows of a table; rows that an earlier call has made are not made again.

    Args:
        table: Name of the table.
        scale: `demo`: the demo's generated videos, encoder and objective. `paper`: the paper's.
        seeds: Seeds to train with; figures are means over them.
        epochs: number of epochs per training run; default: the preset's.
        folder: folder for the generated videos and their runs; `paper` uses the current folder.
        stores: Paths of stores, by `UCF101`, `HMDB51` and `K400`; for scale `paper`.
        device: Device to compute on.
        workers: Processes that prepare the demo's videos; default: by cores.
        say: Called with each message for the user.

    Returns:
        table, scale, seeds, title, note, columns, rows (see `compared`), failed (number of rows
        whose training failed), seconds, and files (the paths written).

    Raises:
        InputError: No row can be made.
    """
    begin = time.monotonic()
    where = str(pick_device(device))
    with inside(folder) if scale == "demo" else contextlib.nullcontext():
        if scale == "demo":
            drawn_store(0, workers=workers, say=say)
        jobs, needs = plan_jobs(table, scale, seeds, epochs, where, stores or {})
        if not jobs:
            raise InputError(f"no row of {table} can be reproduced: {next(iter(needs.values()))}")
        _say_time(jobs, say)
        figures, failed = _train_and_measure_all(jobs, say)
        result = {
            "table": table,
            "scale": scale,
            "seeds": list(seeds),
            "title": TABLES[table].title,
            "note": _note(jobs, scale),
            "columns": list(TABLES[table].columns),
            "rows": [
                compared(
                    row,
                    _by_column([figures[n, seed] for seed in seeds if (n, seed) in figures]),
                    ours_by=_ours_by(row, scale),
                    needs=(needs | failed).get(n),
                )
                for n, row in enumerate(TABLES[table].rows)
            ],
            "failed": len(failed),
            "seconds": round(time.monotonic() - begin, 1),
        }
        files = write_comparison(result)
    base = folder if scale == "demo" else "."
    return {**result, "files": [str(Path(base) / name) for name in files]}


def plan_jobs(
    table: TableName,
    scale: Scale,
    seeds: Sequence[int],
    epochs: int | None,
    device: str,
    stores: Mapping[str, str],
) -> tuple[list[Job], dict[int, str]]:
    """List the jobs of a table's rows, and the reasons why rows are left out or incomplete."""
    jobs: list[Job] = []
    needs: dict[int, str] = {}
    for number, row in enumerate(TABLES[table].rows):
        if row.training is None:
            continue
        if scale == "paper" and (missing := sorted(_data_sets(row) - stores.keys())):
            named = " or ".join(f"{name} (--{Path(STORES[name]).stem})" for name in missing)
            needs[number] = f"there is no clip store of {named}; see docs/reproduce.md"
        details = _demo_details(row, device) if scale == "demo" else _paper_details(row, stores)
        if not details:
            continue
        details["options"] |= {"epochs": epochs} if epochs else {}
        row_jobs = [Job(row=number, seed=seed, device=device, **details) for seed in seeds]
        try:
            training_entries(ClipStore(details["store"]), row_jobs[0].settings)
            jobs += row_jobs
        except StoreError as error:
            needs[number] = str(error)
    return jobs, needs


def _demo_details(row: Row, device: str) -> dict[str, Any]:
    return {
        "preset": "demo",
        "options": {k: v for k, v in (row.training or {}).items() if k != "encoder"},
        "store": STORE,
        "targets": {"UCF101": STORE},
        "mode": "linear" if row.mode == "linear-augmented" else row.mode,
        "classifier": DEMO_CLASSIFIER if row.mode == "finetune" else {},
        "threads": 1 if device == "cpu" else None,
    }


def _paper_details(row: Row, stores: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the paper trains for a row; None if a store that it needs is missing."""
    targets = {name: stores[name] for name in ("UCF101", "HMDB51") if name in stores}
    if row.source not in stores or not targets:
        return None
    return {
        "preset": row.preset,
        "options": dict(row.training or {}),
        "store": stores[row.source],
        "targets": targets,
        "mode": row.mode,
        "classifier": {},
        "threads": None,
    }


def _data_sets(row: Row) -> set[str]:
    return {row.source, *(column.split()[0] for column in row.published)}


def _say_time(jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    say("estimating the time")
    runs = {job.run: job for job in jobs}
    left = [job for run, job in runs.items() if not _is_trained(RUNS / run)]
    kinds = [(job.store, replace(job.settings, seed=0), job.device) for job in left]
    total = sum(_expected_seconds(*kind) for kind in kinds)
    if jobs[0].threads:  # trained side by side
        total /= max(1, min(len(left), available_cores()))
    say(
        f"{len(left)} of {len(runs)} trainings to do: about {format_duration(total)}, not counting"
        " their evaluation"
    )


@cache
def _expected_seconds(store: str, settings: Settings, device: str) -> float:
    return expected_seconds(Path(store), settings, compute_options(torch.device(device)))


def _is_trained(path: Path) -> bool:
    return (path / "config.toml").exists() and is_done(open_run(path))


def _train_and_measure_all(
    jobs: Sequence[Job], say: Callable[[str], None]
) -> tuple[dict[tuple[int, int], Figures], dict[int, str]]:
    """Return the figures by row and seed, and the errors of failed rows."""
    figures: dict[tuple[int, int], Figures] = {}
    failed: dict[int, str] = {}
    # The jobs of a run go to one process: in two they would wait for each other's lock.
    runs = dict.fromkeys(job.run for job in jobs)
    batches = [[job for job in jobs if job.run == run] for run in runs]
    results = (
        run_jobs(train_and_measure, batches, workers=min(len(batches), available_cores()))
        if jobs[0].threads
        else map(train_and_measure, batches)
    )
    for job, measured in chain.from_iterable(results):
        if isinstance(measured, str):
            failed[job.row] = measured
            say(f"failed: {job.run}: {measured}")
            continue
        figures[job.row, job.seed] = measured
        values = ", ".join(f"{column} {value:.3f}" for column, value in measured.items())
        say(f"row {job.row + 1}, {job.run}: {values}")
    return figures, failed


def train_and_measure(jobs: Sequence[Job]) -> list[tuple[Job, Figures | str]]:
    """Train the run that some jobs share, unless it is done, and measure each of them.

    Returns:
        For each job its figures, or the message of the error that stopped it.
    """
    first = jobs[0]
    if first.threads:
        torch.set_num_threads(first.threads)
    with contextlib.redirect_stderr(PrefixedLines(first.run, sys.stderr)):

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        try:
            options = {**first.options, "seed": first.seed}
            where: dict[str, Any] = {"run": first.run, "device": first.device}
            train(first.store, preset=first.preset, options=options, say=say, **where)
            by_mode = {job.mode: job for job in jobs}
            figures = {mode: _measure(job, say) for mode, job in by_mode.items()}
            return [(job, figures[job.mode]) for job in jobs]
        except SlicError as error:
            return [(job, str(error)) for job in jobs]


def _measure(job: Job, say: Callable[[str], None]) -> Figures:
    run, figures = open_run(RUNS / job.run), Figures()
    for name, store in job.targets.items():
        shared: dict[str, Any] = {"store": store, "device": job.device, "say": say}
        if job.mode is None:
            recall = retrieve(run, ks=KS, **shared)["recall"]
            figures |= {f"{name} R@{k}": recall[str(k)] for k in KS}
        else:
            result = classify(run, mode=job.mode, options=job.classifier, **shared)
            figures[f"{name} top-1"] = result["top1"]
    return figures


def _by_column(rows: Sequence[Figures]) -> dict[str, list[float]]:
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else {})}


def _note(jobs: Sequence[Job], scale: Scale) -> str:
    """Describe in one line what our rows were trained on."""
    kinds = {(job.preset, s.frames, s.size, s.epochs) for job in jobs for s in [job.settings]}
    made = "; ".join(f"preset {p}, {f} frames of {px} px, {e} epochs" for p, f, px, e in kinds)
    if scale == "paper":
        return f"ours: {made}"
    return (
        f"ours: {made}, on the demo's generated videos instead of UCF101; encoder, objective and"
        " data differ from the published figures', so this is no reproduction of them"
    )


def _ours_by(row: Row, scale: Scale) -> str:
    if scale == "paper":
        return row.network
    mode = {None: "", "linear-augmented": ", linear", "finetune": ", finetuned"}[row.mode]
    return f"small, InfoNCE, generated{mode}"


def find_stores(paths: Mapping[str, str | None]) -> dict[str, str]:
    """Return the stores that exist, of those given or of the usual names.

    Raises:
        StoreError: A store that was given does not exist.
    """
    stores = {}
    for name, usual in STORES.items():
        given = paths.get(name)
        if given is not None and not Path(given).is_dir():
            raise StoreError(f"{given}: no such store; create one with `slic prep flow DATASET`")
        if given is not None or Path(usual).is_dir():
            stores[name] = given or usual
    return stores
