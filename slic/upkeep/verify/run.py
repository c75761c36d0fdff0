"""Check and repair a run: its settings, checkpoints, log, clusterings and embedding caches."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slic.cache import ClipStore, EmbeddingCache
from slic.cache.clusterings import read_clusterings
from slic.cache.writers import LEFTOVER_S
from slic.config import with_defaults
from slic.embed.cached import checkpoint_tag, run_checkpoint
from slic.encoders.checkpoints import encoder_of
from slic.errors import CacheError, CheckpointError, SlicError
from slic.neighbours.saved_index import index_fault, saved_indexes
from slic.runs import Run, lock_run, open_run
from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.runtime.progress import progress
from slic.runtime.text import counted
from slic.upkeep.verify.report import Fault, Report

_KEPT = re.compile(r"epoch\d+")
_INCOMPLETE = re.compile(r"\..+\.[0-9a-f]{8}")


def verify_run(path: Path, *, repair: bool = False) -> Report:
    """Check a run.

    Args:
        path: its folder.
        repair: remove damaged caches, and set other damaged files aside.

    Raises:
        CheckpointError: `repair` is set, and another process is training the run.
        DiskError: the system refuses to read it.
    """
    with contextlib.ExitStack() as stack:
        if repair:
            stack.callback(lock_run(path))
        report = _RunCheck(path, training=not repair and is_training(path)).report()
        if repair:
            report.repair()
    return report


def is_training(path: Path) -> bool:
    """Return whether a process is training a run now; False where that cannot be known."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        # Opened for reading only, because the run may be read-only.
        with (path / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never trained, or a file system without locks
        pass
    return False


def run_leftovers(path: Path, *, training: bool) -> list[Path]:
    """Return the incomplete files that killed processes left in a run.

    Evaluation holds no lock, so its files count only when they are older than a day.

    Args:
        path: the run.
        training: a process is training the run, so that its files count only after a day, too.
    """
    found = [p for p in (*path.glob(".*"), *path.glob("*/.*")) if _INCOMPLETE.fullmatch(p.name)]
    day_ago = time.time() - LEFTOVER_S
    return sorted(
        p for p in found if p.lstat().st_mtime < day_ago or (_of_training(p) and not training)
    )


def _of_training(file: Path) -> bool:
    if file.parent.name in ("embeddings", "classify"):
        return "-train.h5." in file.name
    return not file.name.startswith(".config.toml.")


class _RunCheck:
    """The check of one run.

    Args:
        path: its folder.
        training: another process is training it.
    """

    def __init__(self, path: Path, *, training: bool) -> None:
        self.path, self.training = path, training
        self.latest, self.metrics = path / "checkpoints" / "latest", path / "metrics.jsonl"
        self.log = self.metrics.read_bytes() if self.metrics.exists() else b""
        self.lines: dict[Path, int | None] = {}  # of the log, that belong to each sound checkpoint

    def report(self) -> Report:
        """Check everything."""
        report = Report(str(self.path), "run")
        try:
            run = open_run(self.path)
        except SlicError as error:
            what = f"{_reason(error, self.path / 'config.toml')}: correct it by hand"
            report.faults.append(Fault("config.toml", what))
        else:
            report.faults += self._checkpoint_faults(run, report)
            report.notes += _store_notes(run)
        report.faults += self._metrics_faults(report)
        report.faults += self._cache_faults(report)
        for file in run_leftovers(self.path, training=self.training):
            report.faults.append(self._removal(file, "left by a killed process", "remove it"))
        return report

    def _fault(self, file: Path, what: str, repair: str, action: Callable[[], object]) -> Fault:
        return Fault(file.relative_to(self.path).as_posix(), what, repair, action)

    def _removal(self, file: Path, what: str, repair: str) -> Fault:
        return self._fault(file, what, repair, partial(file.unlink, missing_ok=True))

    def _setting_aside(self, file: Path, what: str) -> Fault:
        aside = _free_name(file)
        return self._fault(file, what, f"set it aside as {aside.name}", partial(file.rename, aside))

    def _checkpoint_faults(self, run: Run, report: Report) -> Iterator[Fault]:
        kept = sorted(p for p in self.latest.parent.glob("epoch*") if _KEPT.fullmatch(p.name))
        problems: dict[Path, str] = {}
        with progress(len(kept) + 1, "verify", unit="checkpoints") as advance:
            for file in (*kept, self.latest):
                try:
                    progress_made, settings = _read_checkpoint(run, file)
                    self.lines[file] = progress_made.get("lines")
                except CheckpointError as error:
                    raise_if_unreadable(file, error.__context__)
                    problems[file] = _reason(error, file)
                advance(1, 1)
        report.checked["checkpoints"] = len(kept) + self.latest.exists()
        is_done = b'"kind": "done"' in self.log and not self.training
        if what := problems.pop(self.latest, None):
            if self.latest.exists() or kept or is_done:
                yield self._latest_fault(what)
        elif differing := _differing_settings(settings, run):
            what = f"other settings than the latest checkpoint's ({differing}): correct it by hand"
            yield Fault("config.toml", what)
        for file, what in problems.items():
            yield self._setting_aside(file, what)

    def _latest_fault(self, what: str) -> Fault:
        replacement = max(self.lines, default=None)
        repair = f"set it aside as {_free_name(self.latest).name}; "
        if replacement:
            repair += f"`slic train` continues from {replacement.name}"
        else:
            repair += "`slic train` starts again, and metrics.jsonl is set aside as well"
        return self._fault(self.latest, what, repair, partial(self._replace_latest, replacement))

    def _replace_latest(self, replacement: Path | None) -> None:
        """Replace the latest checkpoint by an earlier one and cut the log to it, or start again.

        A longer log would end in `done`, and the run would count as finished.
        """
        for file in (self.latest,) if replacement else (self.latest, self.metrics):
            if file.exists():
                file.rename(_free_name(file))
        if replacement:
            self._keep_records(replacement)
            with replacement.open("rb") as source, atomic_write(self.latest) as target:
                shutil.copyfileobj(source, target)

    def _keep_records(self, checkpoint: Path) -> None:
        """Cut metrics.jsonl to a checkpoint's lines, and remove damaged ones among them."""
        if self.metrics.exists():
            lines = self.metrics.read_bytes().split(b"\n")[:-1][: self.lines.get(checkpoint)]
            with atomic_write(self.metrics) as file:
                file.writelines(line + b"\n" for line in lines if _is_record(line))

    def _metrics_faults(self, report: Report) -> Iterator[Fault]:
        *lines, rest = self.log.split(b"\n")
        report.checked["metrics"] = len(lines)
        damaged = [number for number, line in enumerate(lines, start=1) if not _is_record(line)]
        if rest and not self.training:  # else it is being written
            damaged.append(len(lines) + 1)
        for number in damaged:
            action = partial(self._keep_records, self.latest)
            where = f"metrics.jsonl: line {number}"
            yield Fault(where, "is not a complete record", "remove it", action)
        lost = (self.lines.get(self.latest) or 0) - len(lines)
        if lost > 0:
            report.notes.append(f"metrics.jsonl: {counted(lost, 'line')} of it are lost")

    def _cache_faults(self, report: Report) -> Iterator[Fault]:
        clusters, folder = self.path / "clusters.h5", self.path / "embeddings"
        try:
            if clusters.exists():
                read_clusterings(clusters)
        except CheckpointError as error:
            yield self._setting_aside(clusters, _reason(error, clusters))
        caches = sorted(folder.glob("[!.]*.h5"))
        report.checked["embeddings"] = len(caches)
        for file in caches:
            if what := cache_problem(file):
                command = "slic train" if file.name.endswith("-train.h5") else "slic eval"
                yield self._removal(file, what, f"remove it; `{command}` computes it again")
        for file in saved_indexes(folder):
            if what := index_fault(file):
                yield self._removal(file, what, "remove it; `slic search` builds it again")


def _read_checkpoint(run: Run, file: Path) -> tuple[dict[str, Any], Any]:
    """Read a checkpoint as evaluation does; return its progress and its settings.

    Raises:
        CheckpointError: it is missing, damaged, or of another encoder.
    """
    content = run_checkpoint(run, file)
    checkpoint_tag(content, file)
    encoder_of(content, where=str(file))
    return content["progress"], content.get("settings")


def _differing_settings(found: Any, run: Run) -> str:
    """Return the settings in which a run and a checkpoint differ: `batch_size 7 / 6, ...`."""
    if not isinstance(found, dict):  # imported weights have none
        return ""
    theirs, ours = with_defaults(found), run.settings.as_dict()
    return ", ".join(f"{n} {v} / {theirs.get(n)}" for n, v in ours.items() if theirs.get(n) != v)


def _store_notes(run: Run) -> Iterator[str]:
    try:
        store = ClipStore(run.store)
        if run.store_digest not in (store.digest(), store.digest(flow=True)):
            yield f"its store {run.store} has changed since the run began"
    except SlicError as error:
        yield f"its store cannot be read: {error}"


def _free_name(file: Path) -> Path:
    """Return `<file>.set-aside`, or the first numbered one that is free."""
    aside, number = file.with_name(f"{file.name}.set-aside"), 2
    while aside.exists():
        aside, number = file.with_name(f"{file.name}.set-aside-{number}"), number + 1
    return aside


def cache_problem(file: Path) -> str | None:
    """Return what is wrong with an embedding cache, or None."""
    try:
        cache = EmbeddingCache(file)
    except CacheError as error:
        return _reason(error, file)
    if not (np.isfinite(cache.backbone).all() and np.isfinite(cache.projection).all()):
        return "holds values that are not finite"
    keys = ("store", "store_digest", "checkpoint", "protocol")
    name = "{}.{}-{}-{}".format(*(cache.attributes.get(key) for key in keys))
    return None if file.stem in (name, f"{name}-train") else f"its name should be {name}"


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("kind"), str)


def _reason(error: SlicError, file: Path) -> str:
    return str(error).removeprefix(f"{file}: ")
