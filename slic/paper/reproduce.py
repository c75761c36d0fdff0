"""`slic reproduce`: the SLIC rows of the paper's tables, one after another, beside its figures."""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from slic.cache import ClipStore
from slic.config import Settings, make_settings
from slic.demo.demo import FOLDER, STORE, PrefixedLines, drawn_store, inside
from slic.errors import InputError, SlicError, StoreError
from slic.eval.classify import classify
from slic.eval.retrieve import retrieve
from slic.paper.comparison import compared, write_comparison
from slic.published import TABLES, Row, Table, TableName
from slic.runs import RUNS, open_run
from slic.runtime.devices import pick_device
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import format_duration
from slic.train.outcome import is_done
from slic.train.run import compute_options, train
from slic.train.training import expected_seconds
from slic.train.training_set import training_entries

Scale = Literal["demo", "paper"]
# Of classification at the scale of the demo, whose videos are a hundredth of UCF101's.
DEMO_CLASSIFIER = {"epochs": 30, "dropout": 0.5}
KS = (1, 5)


@dataclass(frozen=True)
class Job:
    """One training, and what is measured of it.

    Attributes:
        rows: numbers of the table's rows that it is for.
        preset: of its settings.
        options: settings that differ from it.
        seed: of the training.
        store: to train on.
        targets: `{data set's name: store}` to measure on.
        mode: of classification; None for retrieval.
        classifier: options of `classify`.
        device: where to compute.
        threads: of this training; None for all.
    """

    rows: tuple[int, ...]
    preset: str
    options: dict[str, Any]
    seed: int
    store: str
    targets: dict[str, str]
    mode: Literal["linear", "linear-augmented", "finetune"] | None
    classifier: dict[str, Any]
    device: str
    threads: int | None

    @property
    def settings(self) -> Settings:
        """Of the training."""
        return make_settings(self.preset, options={**self.options, "seed": self.seed})

    @property
    def run(self) -> str:
        """Name of its run: the same for the same settings, so that tables share runs."""
        text = json.dumps([held_by(self.store), self.settings.as_dict()], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return f"reproduce-{self.settings.encoder}-{digest}"


@cache
def held_by(store: str) -> str:
    """A store's name and what it holds, however its path is typed."""
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
    """Make the SLIC rows of a table; run again, it goes on with the first row that is missing.

    Args:
        table: which one.
        scale: `demo`, the demo's drawn set, encoder and objective; or `paper`.
        seeds: of training; figures are means over them.
        epochs: of each training; the preset's if None.
        folder: where the demo's set and all runs go; of the paper's scale, the current one.
        stores: `{"UCF101": path, "HMDB51": path, "K400": path}`, of the paper's scale.
        device: where to compute.
        workers: processes for preparing the drawn set.
        say: takes lines meant for the user.

    Returns:
        table, scale, seeds, title, columns, rows (each: method, network, published, ours: mean,
        spread and values by column, difference, needs), how many rows failed, seconds, and the
        files written.

    Raises:
        InputError: the data for every row is missing.
    """
    begin = time.monotonic()
    found, needs = TABLES[table], dict[int, str]()
    where = str(pick_device(device))
    with inside(folder) if scale == "demo" else contextlib.nullcontext():
        if scale == "demo":
            drawn_store(0, workers=workers, say=say)
            jobs = _demo_jobs(found, seeds, epochs, where)
        else:
            jobs, needs = _paper_jobs(found, seeds, epochs, where, stores or {})
        jobs, unfit = _fit(jobs)
        needs |= unfit
        if not jobs:
            raise InputError(f"no row can be made: {next(iter(needs.values()))}")
        _say_time(jobs, say)
        figures, failed = _figures(jobs, say)
        needs |= failed
        result = {
            "table": table,
            "scale": scale,
            "seeds": list(seeds),
            "title": found.title,
            "note": _note(jobs, scale),
            "columns": list(found.columns),
            "rows": [
                compared(
                    row,
                    _by_column(figures.get(n, {}), seeds),
                    ours_by=_ours_by(row, scale),
                    needs=needs.get(n),
                )
                for n, row in enumerate(found.rows)
            ],
            "failed": len(failed),
            "seconds": round(time.monotonic() - begin, 1),
        }
        files = write_comparison(result)
    base = folder if scale == "demo" else "."
    return {**result, "files": [str(Path(base) / name) for name in files]}


def _demo_jobs(table: Table, seeds: Sequence[int], epochs: int | None, device: str) -> list[Job]:
    jobs = []
    for number, row in _own(table):
        options = {k: v for k, v in (row.training or {}).items() if k != "encoder"}
        for seed in seeds:
            jobs.append(
                Job(
                    rows=(number,),
                    preset="demo",
                    options=options | ({"epochs": epochs} if epochs else {}),
                    seed=seed,
                    store=STORE,
                    targets={"UCF101": STORE},
                    mode="linear" if row.mode == "linear-augmented" else row.mode,
                    classifier=DEMO_CLASSIFIER if row.mode == "finetune" else {},
                    device=device,
                    threads=1 if device == "cpu" else None,
                )
            )
    return _merged(jobs)


def _paper_jobs(
    table: Table,
    seeds: Sequence[int],
    epochs: int | None,
    device: str,
    stores: Mapping[str, str],
) -> tuple[list[Job], dict[int, str]]:
    jobs, needs = [], {}
    for number, row in _own(table):
        source = "K400" if row.preset.startswith("kinetics") else "UCF101"
        targets = {name: stores[name] for name in ("UCF101", "HMDB51") if name in stores}
        columns = {column.split()[0] for column in row.published}
        missing = sorted(({source} | columns) - stores.keys())
        if missing:
            words = " and ".join(missing)
            needs[number] = f"a store of {words} for what is not filled in (docs/reproduce.md)"
        if source not in stores or not targets:
            continue
        for seed in seeds:
            jobs.append(
                Job(
                    rows=(number,),
                    preset=row.preset,
                    options=(row.training or {}) | ({"epochs": epochs} if epochs else {}),
                    seed=seed,
                    store=stores[source],
                    targets=targets,
                    mode=row.mode,
                    classifier={},
                    device=device,
                    threads=None,
                )
            )
    return _merged(jobs), needs


def _own(table: Table) -> Iterator[tuple[int, Row]]:
    return ((n, row) for n, row in enumerate(table.rows) if row.training is not None)


def _merged(jobs: Sequence[Job]) -> list[Job]:
    """Rows that differ in nothing at this scale are one job."""
    merged: dict[tuple, Job] = {}
    for job in jobs:
        key = (job.run, job.mode)
        known = merged.get(key)
        merged[key] = replace(job, rows=(*known.rows, *job.rows)) if known else job
    return list(merged.values())


def _say_time(jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    """The time that what is missing will take; estimated once for each kind of clip."""
    say("estimating the time")
    kinds: dict[tuple, float] = {}
    left = {job.run: job for job in jobs if not _trained(job)}
    total = 0.0
    for job in left.values():
        s, where = job.settings, torch.device(job.device)
        kind = (job.store, s.encoder, s.frames, s.size, s.batch_size, s.epochs)
        if kind not in kinds:
            compute = compute_options(where)
            kinds[kind] = expected_seconds(Path(job.store), s, compute)
        total += kinds[kind]
    if all(job.threads for job in jobs):
        total /= max(1, min(len(left), available_cores()))
    count = len({job.run for job in jobs})
    say(f"{len(left)} of {count} trainings to do: about {format_duration(total)},")
    say("and the embeddings and classifiers of each, which are not counted")


def _fit(jobs: Sequence[Job]) -> tuple[list[Job], dict[int, str]]:
    """The jobs whose stores can be trained on, and why the rows of the others are left out."""
    fit: list[Job] = []
    needs: dict[int, str] = {}
    for job in jobs:
        try:
            training_entries(ClipStore(job.store), job.settings)
            fit.append(job)
        except StoreError as error:
            needs |= dict.fromkeys(job.rows, str(error))
    return fit, needs


def _trained(job: Job) -> bool:
    path = RUNS / job.run
    return (path / "config.toml").exists() and is_done(open_run(path))


def _figures(
    jobs: Sequence[Job], say: Callable[[str], None]
) -> tuple[dict[int, dict[int, dict[str, float]]], dict[int, str]]:
    """`{row: {seed: {column: fraction}}}`, and why rows have failed."""
    figures: dict[int, dict[int, dict[str, float]]] = {}
    failed: dict[int, str] = {}
    small = all(job.threads for job in jobs)
    # A job is its run's only one: two of one run would wait for each other's lock.
    batches = list(_by_run(jobs).values())
    done = (
        run_jobs(work, batches, workers=min(len(batches), available_cores()))
        if small
        else map(work, batches)
    )
    for job, found in (each for batch in done for each in batch):
        if isinstance(found, str):
            failed |= dict.fromkeys(job.rows, found)
            say(f"failed: {job.run}: {found}")
            continue
        for number in job.rows:
            figures.setdefault(number, {})[job.seed] = found
        short = ", ".join(f"{column} {value:.3f}" for column, value in found.items())
        say(f"{job.run}: {short}")
    return figures, failed


def _by_column(
    figures: Mapping[int, Mapping[str, float]], seeds: Sequence[int]
) -> dict[str, list[float]]:
    """A row's fractions by column, in the order of the seeds."""
    rows = [figures[seed] for seed in seeds if seed in figures]
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else {})}


def _by_run(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    batches: dict[str, list[Job]] = {}
    for job in jobs:
        batches.setdefault(job.run, []).append(job)
    return batches


def work(jobs: Sequence[Job]) -> list[tuple[Job, dict[str, float] | str]]:
    """Train the one run of some jobs, or find it done, and measure it.

    Each job comes back with fractions by column, or with the line of what went wrong.
    """
    first = jobs[0]
    if first.threads:
        torch.set_num_threads(first.threads)
    with contextlib.redirect_stderr(PrefixedLines(first.run, sys.stderr)):

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        try:
            train(
                first.store,
                preset=first.preset,
                options={**first.options, "seed": first.seed},
                run=first.run,
                device=first.device,
                say=say,
            )
            return [(job, _measured(job, say)) for job in jobs]
        except SlicError as error:
            return [(job, str(error)) for job in jobs]


def _measured(job: Job, say: Callable[[str], None]) -> dict[str, float]:
    run, columns = open_run(RUNS / job.run), dict[str, float]()
    for name, store in job.targets.items():
        if job.mode is None:
            recall = retrieve(run, ks=KS, store=store, device=job.device, say=say)["recall"]
            columns |= {f"{name} R@{k}": recall[str(k)] for k in KS}
        else:
            found = classify(
                run,
                mode=job.mode,
                store=store,
                options=job.classifier,
                device=job.device,
                say=say,
            )
            columns[f"{name} top-1"] = found["top1"]
    return columns


def _note(jobs: Sequence[Job], scale: Scale) -> str:
    """What our rows were trained on and how, in a line."""
    kinds = {(j.preset, s.frames, s.size, s.epochs) for j in jobs for s in [j.settings]}
    made = "; ".join(f"preset {p}, {f} frames of {px} px, {e} epochs" for p, f, px, e in kinds)
    if scale == "paper":
        return f"ours: {made}"
    return (
        f"ours: {made}, on the demo's drawn video in place of UCF101: another encoder, objective"
        " and data than the published figures, and no reproduction of them"
    )


def _ours_by(row: Row, scale: Scale) -> str:
    if scale == "paper":
        return row.network
    how = {None: "", "linear-augmented": ", linear", "finetune": ", finetuned"}[row.mode]
    return f"small, InfoNCE, drawn{how}"


def find_stores(paths: Mapping[str, str | None]) -> dict[str, str]:
    """The stores that are there, of those given or of the usual names.

    Raises:
        StoreError: one that is given is not there.
    """
    usual = {"UCF101": "ucf101.zarr", "HMDB51": "hmdb51.zarr", "K400": "kinetics400.zarr"}
    found = {}
    for name, default in usual.items():
        given = paths.get(name)
        if given is not None and not Path(given).is_dir():
            raise StoreError(f"{given}: no such store; `slic prep flow DATASET` makes one")
        if given is not None or Path(default).is_dir():
            found[name] = given or default
    return found
