"""`slic cache verify RUN`: what a run has written, and what is dropped or set aside of it."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from slic.cache import ClipStore, EmbeddingCache
from slic.cache.clusterings import read_clusterings
from slic.cache.writers import LEFTOVER_S
from slic.errors import CacheError, CheckpointError, SlicError
from slic.neighbours.kept import index_fault
from slic.runs import Run, lock_run, open_run
from slic.runtime.progress import progress
from slic.upkeep.verify.checkpoints import Checkpoints, aside_of, keep_lines, set_aside
from slic.upkeep.verify.report import Fault, Report

# What `train` writes aside, and what evaluation does, which takes no lock.
_OF_TRAINING = (
    ".metrics.jsonl.*",
    ".clusters.h5.*",
    ".failed-step.json.*",
    "checkpoints/.*",
    "embeddings/.*-train.h5.*",
)
_OF_OTHERS = (".config.toml.*", "embeddings/.*.h5.*", "embeddings/.*.faiss.*", "classify/.*")


def verify_run(path: Path, *, repair: bool = False) -> Report:
    """Check a run folder, and repair it if asked to.

    Args:
        path: the folder.
        repair: drop broken caches and set other broken files aside.

    Raises:
        CheckpointError: to be repaired while another process trains it.
    """
    begin = time.monotonic()
    unlock = lock_run(path) if repair else None
    try:
        report = _Check(path, trained_now=not repair and is_trained_now(path)).report()
        if repair:
            report.mend()
    finally:
        if unlock:
            unlock()
    report.seconds = round(time.monotonic() - begin, 3)
    return report


def is_trained_now(path: Path) -> bool:
    """Whether a process is training a run at this moment, as far as can be known."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        # Opened for reading alone: the run may be read-only.
        handle = os.open(path / "lock", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # never trained, or not ours to read
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def run_leftovers(path: Path, *, trained_now: bool) -> list[Path]:
    """What killed processes left half-written in a run, as far as can be known."""
    ours = [] if trained_now else [p for glob in _OF_TRAINING for p in path.glob(glob)]
    others = [p for glob in _OF_OTHERS for p in path.glob(glob) if p not in ours]
    old = [p for p in others if time.time() - p.lstat().st_mtime > LEFTOVER_S]
    return sorted([*ours, *(p for p in old if not (trained_now and "-train.h5." in p.name))])


class _Check:
    """One check of a run.

    Args:
        path: its folder.
        trained_now: another process is training it.
    """

    def __init__(self, path: Path, *, trained_now: bool) -> None:
        self.path, self.trained_now = path, trained_now
        self.notes: list[str] = []
        self.run: Run | None = None

    def report(self) -> Report:
        """Look at everything."""
        report = Report(str(self.path), "run", notes=self.notes)
        parts: list[Callable[[], Iterator[Fault]]] = [
            self._config,
            self._checkpoints,
            self._metrics,
            self._clusters,
            self._embeddings,
            self._leftovers,
        ]
        with progress(len(parts), "verify", unit="parts") as advance:
            for part in parts:
                report.faults += part()
                advance(1, 1)
        self._note_store()
        report.checked = {
            "checkpoints": self.checkpoints.files,
            "metrics": self.lines,
            "embeddings": self.caches,
        }
        return report

    def _config(self) -> Iterator[Fault]:
        try:
            self.run = open_run(self.path)
        except SlicError as error:
            said = str(error).removeprefix(f"{self.path / 'config.toml'}: ")
            yield Fault("config.toml", f"{said}: put it right by hand")

    def _checkpoints(self) -> Iterator[Fault]:
        self.checkpoints = Checkpoints(self.path, self.run)
        trained = (self.path / "metrics.jsonl").exists() and not self.trained_now
        done = trained and b'"kind": "done"' in (self.path / "metrics.jsonl").read_bytes()
        yield from self.checkpoints.faults(trained=done)

    def _metrics(self) -> Iterator[Fault]:
        file = self.path / "metrics.jsonl"
        self.lines = 0
        if not file.exists():
            return
        *whole, last = file.read_bytes().split(b"\n")
        self.lines = len(whole)
        mend = partial(self._mend_metrics, file)
        for number, line in enumerate(whole, start=1):
            if not _is_record(line):
                yield Fault(f"metrics.jsonl: line {number}", "is no record", "drop it", mend)
        if last and not self.trained_now:
            yield Fault("metrics.jsonl", "its last line is cut short", "drop that line", mend)
        known = (self.checkpoints.content.get("progress") or {}).get("lines", 0)
        if isinstance(known, int) and known > self.lines:
            self.notes.append(f"metrics.jsonl: {known - self.lines} of {known} lines are lost")

    def _mend_metrics(self, file: Path) -> None:
        if not file.exists():  # it was set aside with the latest checkpoint
            return
        whole = file.read_bytes().split(b"\n")[:-1]
        known = (self.checkpoints.content.get("progress") or {}).get("lines")
        # Lines beyond the checkpoint's are written again: they must not move up among its own.
        count = known if isinstance(known, int) else len(whole)
        keep_lines(file, [line for line in whole[:count] if _is_record(line)])

    def _clusters(self) -> Iterator[Fault]:
        file = self.path / "clusters.h5"
        if not file.exists():
            return
        if why := clusters_fault(file):
            repair = f"set it aside as {aside_of(file).name}"
            yield Fault("clusters.h5", why, repair, partial(set_aside, file))

    def _embeddings(self) -> Iterator[Fault]:
        files = sorted((self.path / "embeddings").glob("[!.]*.h5"))
        self.caches = len(files)
        for file in files:
            if why := cache_fault(file):
                again = "slic train" if file.name.endswith("-train.h5") else "slic eval"
                repair = f"drop it; `{again}` makes it again"
                where = file.relative_to(self.path).as_posix()
                yield Fault(where, why, repair, partial(file.unlink, missing_ok=True))
        for file in sorted((self.path / "embeddings").glob("[!.]*.faiss")):
            if why := index_fault(file):
                where = file.relative_to(self.path).as_posix()
                repair = "drop it; `slic search` makes it again"
                yield Fault(where, why, repair, partial(file.unlink, missing_ok=True))

    def _leftovers(self) -> Iterator[Fault]:
        for item in run_leftovers(self.path, trained_now=self.trained_now):
            where = item.relative_to(self.path).as_posix()
            mend = partial(item.unlink, missing_ok=True)
            yield Fault(where, "left by a killed process", "drop it", mend)

    def _note_store(self) -> None:
        if self.run is None:
            return
        if not self.run.store.is_dir():
            self.notes.append(f"its store {self.run.store} is not there")
            return
        with contextlib.suppress(SlicError):
            store = ClipStore(self.run.store)
            now = {store.digest(flow=flow) for flow in (False, True)}
            if self.run.store_digest not in now:
                self.notes.append(f"its store {self.run.store} has changed since the run began")
            return
        self.notes.append(f"its store {self.run.store} cannot be read: verify that as well")


def cache_fault(file: Path) -> str | None:
    """What is wrong with an embedding cache, or None."""
    try:
        cache = EmbeddingCache(file)
    except CacheError as error:
        return str(error).removeprefix(f"{file}: ")
    if not (np.isfinite(cache.backbone).all() and np.isfinite(cache.projection).all()):
        return "holds values that are not finite"
    about = cache.attributes
    named = "{store}.{store_digest}-{checkpoint}-{protocol}"
    try:
        stem = named.format(**about)
    except KeyError as error:
        return f"does not say its {error.args[0]}"
    if file.name not in (f"{stem}.h5", f"{stem}-train.h5"):
        return f"is of {stem}, which is not its name"
    return None


def clusters_fault(file: Path) -> str | None:
    """What is wrong with a clusters.h5, or None."""
    try:
        read_clusterings(file)
    except CheckpointError as error:
        return str(error).removeprefix(f"{file}: ")
    return None


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("kind"), str)
