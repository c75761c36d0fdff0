"""`slic reproduce`: the SLIC rows of the paper's tables, one after another, beside its figures."""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from slic.comparison import compared, write_comparison
from slic.config import Settings, make_settings
from slic.demo import FOLDER, STORE, Named, drawn_store, inside
from slic.devices import pick_device, reading_workers
from slic.errors import InputError, StoreError
from slic.eval.classify import classify
from slic.eval.retrieve import retrieve
from slic.processes import default_workers, run_jobs
from slic.progress import clock
from slic.published import TABLES, Row, Table, TableName
from slic.runs import RUNS, open_run
from slic.train.compute import Means
from slic.train.loop import is_done
from slic.train.run import expected_seconds, train

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
        classifier: further arguments of `classify`.
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
        text = json.dumps([self.store, self.settings.as_dict()], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return f"reproduce-{self.settings.encoder}-{digest}"


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
        spread and values by column, difference, needs), seconds, and the files written.

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
        _say_time(jobs, say)
        figures = _figures(jobs, say)
        result = {
            "table": table,
            "scale": scale,
            "seeds": list(seeds),
            "title": found.title,
            "columns": list(found.columns),
            "rows": [
                compared(row, figures.get(n, {}), ours_by=_network(row, scale), needs=needs.get(n))
                for n, row in enumerate(found.rows)
            ],
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
        if source not in stores or not targets:
            needs[number] = f"a store of {source} with flow (docs/reproduce.md)"
            continue
        if "HMDB51" not in targets and any(c.startswith("HMDB51") for c in row.published):
            needs[number] = "a store of HMDB51 for its columns (docs/reproduce.md)"
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
    if not jobs:
        raise InputError(f"no row can be made: {next(iter(needs.values()))}")
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
    kinds: dict[tuple, float] = {}
    left = {job.run: job for job in jobs if not _trained(job)}
    total = 0.0
    for job in left.values():
        s, where = job.settings, torch.device(job.device)
        kind = (job.store, s.encoder, s.frames, s.size, s.batch_size, s.epochs)
        if kind not in kinds:
            means = Means(where, workers=reading_workers(where))
            kinds[kind] = expected_seconds(Path(job.store), s, means)
        total += kinds[kind]
    say(f"{len(left)} of {len({job.run for job in jobs})} trainings to do: about {clock(total)},")
    say("and the embeddings and classifiers of each, which are not counted")


def _trained(job: Job) -> bool:
    path = RUNS / job.run
    return (path / "config.toml").exists() and is_done(open_run(path))


def _figures(jobs: Sequence[Job], say: Callable[[str], None]) -> dict[int, dict[str, list[float]]]:
    """Fractions of every seed, by row and column."""
    figures: dict[int, dict[str, list[float]]] = {}
    small = all(job.threads for job in jobs)
    # A job is its run's only one: two of one run would wait for each other's lock.
    batches = list(_by_run(jobs).values())
    done = (
        run_jobs(work, batches, workers=min(len(batches), default_workers()))
        if small
        else map(work, batches)
    )
    for batch in done:
        for job, columns in batch:
            for number in job.rows:
                for column, value in columns.items():
                    figures.setdefault(number, {}).setdefault(column, []).append(value)
            short = ", ".join(f"{column} {value:.3f}" for column, value in columns.items())
            say(f"{job.run}: {short}")
    return figures


def _by_run(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    batches: dict[str, list[Job]] = {}
    for job in jobs:
        batches.setdefault(job.run, []).append(job)
    return batches


def work(jobs: Sequence[Job]) -> list[tuple[Job, dict[str, float]]]:
    """Train the one run of some jobs, or find it done, and measure it: fractions by column."""
    first = jobs[0]
    if first.threads:
        torch.set_num_threads(first.threads)
    with contextlib.redirect_stderr(Named(first.run, sys.stderr)):

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        train(
            first.store,
            preset=first.preset,
            options={**first.options, "seed": first.seed},
            run=first.run,
            device=first.device,
            say=say,
        )
        return [(job, _measured(job, say)) for job in jobs]


def _measured(job: Job, say: Callable[[str], None]) -> dict[str, float]:
    run, columns = open_run(RUNS / job.run), dict[str, float]()
    for name, store in job.targets.items():
        if job.mode is None:
            recall = retrieve(run, ks=KS, store=store, device=job.device, say=say)["recall"]
            columns |= {f"{name} R@{k}": recall[str(k)] for k in KS}
        else:
            found = classify(
                run, mode=job.mode, store=store, device=job.device, say=say, **job.classifier
            )
            columns[f"{name} top-1"] = found["top1"]
    return columns


def _network(row: Row, scale: Scale) -> str:
    return "small, InfoNCE, drawn" if scale == "demo" else row.network


def need_stores(paths: Mapping[str, str | None]) -> dict[str, str]:
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
