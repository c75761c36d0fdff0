"""Check and repair a clip store: its metadata, index, arrays and leftovers."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from slic.cache import Entry
from slic.cache.clipstore import FORMAT, VIEWS, read_attributes
from slic.cache.index import Index
from slic.cache.metadata import PARTS, group, read_metadata, write_metadata
from slic.cache.writers import Company, WriterLock, aside_name, company_of, leftovers, remove
from slic.errors import NewerFormatError, SlicError, StoreError
from slic.runtime.disk import raise_if_unreadable
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import progress
from slic.runtime.text import counted
from slic.upkeep.verify.recovery import SIDE_FILES, read_index, recover_parameters, write_index
from slic.upkeep.verify.report import Fault, Report
from slic.upkeep.verify.video import ENTER, VideoJob, VideoState, check_video, matches

FEW_VIDEOS = 50  # are read sooner than processes start
_KEY = re.compile(r"[A-Za-z0-9_-]+-[0-9a-f]{16}")
_ASIDE = re.compile(r"\.(zarr\.json|index\.sqlite)\.[0-9a-f]{8}(-journal)?")
_EXPECTED = {
    ".": {"zarr.json", *PARTS},
    "index": {"zarr.json", "index.sqlite", "lock", "writing", *SIDE_FILES},
    "frames": {"zarr.json"},
    "flow": {"zarr.json"},
}


def verify_store(path: Path, *, repair: bool = False, workers: int | None = None) -> Report:
    """Check a clip store.

    Args:
        path: its folder.
        repair: remove damaged entries, so that `slic prep` makes them again.
        workers: processes that read it; one per core if None.

    Raises:
        StoreError: it has a newer format; or `repair` is set, and another process is writing it.
        DiskError: the system refuses to read it.
    """
    workers = workers or available_cores()
    if not repair:
        return _StoreCheck(path, workers).report()
    with WriterLock(path).alone() as company:
        if company == "others" or (company == "unknown" and _has_recent_writer(path)):
            raise StoreError(
                f"{path}: is being written by another process; repair it when that has ended"
            )
        report = _StoreCheck(path, workers, company).report()
        report.repair()
    return report


def _has_recent_writer(path: Path) -> bool:
    """Return whether `index/writing` holds files too young to be leftovers."""
    writing = path / "index" / "writing"
    return writing.is_dir() and len(list(writing.iterdir())) > len(leftovers(path, "unknown"))


def store_leftovers(path: Path, company: Company) -> list[Path]:
    """Return the incomplete files that killed writers left in a store.

    Args:
        path: the store.
        company: who else is writing it; while others are, only files older than a day count.
    """
    found = leftovers(path, company)
    if company != "others":
        found += [
            p for place in _EXPECTED for p in _listed(path / place) if _ASIDE.fullmatch(p.name)
        ]
    return found


def _is_key(folder: Path) -> bool:
    return bool(_KEY.fullmatch(folder.name)) and folder.is_dir()


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


class _StoreCheck:
    """The check of one store.

    Args:
        path: its folder.
        workers: number of processes.
        company: who else is writing it, if that cannot change during the check.
    """

    def __init__(self, path: Path, workers: int, company: Company | None = None) -> None:
        self.path, self.workers, self._company = path, workers, company
        self.index_file = path / "index" / "index.sqlite"
        self.index = read_index(self.index_file)
        self.rows = dict(self.index.entries)  # as they shall be after the repair
        self.index_changes = not self.index.is_sound

    @property
    def company(self) -> Company:
        """Who else is writing the store now."""
        return self._company or company_of(self.path)

    def report(self) -> Report:
        """Check everything."""
        report = Report(str(self.path), "store")
        report.faults = [*self._root_faults(report.notes), *self._group_faults()]
        arrays = {p.name for view in VIEWS for p in _listed(self.path / view) if _is_key(p)}
        keys = sorted({*self.index.entries, *arrays})
        size, found = 0, list[Fault]()
        with progress(len(keys), "verify", unit="MB") as advance:
            for state in self._states(keys):
                found += self._video_faults(state)
                size += state.bytes
                advance(1, state.bytes / 1e6)
        report.faults += [*self._index_faults(), *sorted(found, key=lambda fault: fault.where)]
        report.faults += self._stray_faults()
        report.checked = {"videos": len(keys), "bytes": size}
        return report

    def _root_faults(self, notes: list[str]) -> Iterator[Fault]:
        entries = [entry for entry in self.index.entries.values() if entry.reason is None]
        with_flow = [entry for entry in entries if entry.flow is not None]
        attributes: dict[str, Any] = {}
        problem = None
        try:
            attributes = read_attributes(self.path)
        except NewerFormatError:
            raise
        except StoreError as error:
            raise_if_unreadable(self.path / "zarr.json", error.__context__)
            problem = "is missing or damaged"
        self.parameters = {name: p for name, p in attributes.items() if name != "format"}
        for view, stored in (("frames", entries), ("flow", with_flow)):
            parameters = self.parameters.get(view)
            if parameters and stored and not any(matches(e, view, parameters) for e in stored):
                problem = f"no stored video has the parameters of {view} that it records"
                del self.parameters[view]
        if problem:
            self.parameters = recover_parameters(self.path, entries) | self.parameters
            known = " and ".join(view for view in VIEWS if view in self.parameters)
            document = group({"format": FORMAT, **self.parameters})
            action = partial(write_metadata, self.path / "zarr.json", document)
            what = f"rewrite it with the parameters of {known}" if known else "rewrite it"
            yield Fault("zarr.json", problem, what, action)
        if entries and "frames" not in self.parameters:
            notes.append("parameters of frames are not recorded; `slic prep frames` records them")

    def _group_faults(self) -> Iterator[Fault]:
        for name, document in PARTS.items():
            file = self.path / name / "zarr.json"
            try:
                sound = read_metadata(file) == document
            except (OSError, ValueError, RecursionError) as error:
                raise_if_unreadable(file, error)
                sound = False
            if not sound:
                action = partial(write_metadata, file, document)
                yield Fault(f"{name}/zarr.json", "is missing or damaged", "rewrite it", action)

    def _states(self, keys: list[str]) -> Iterator[VideoState]:
        jobs = (self._job(key, self.index.entries.get(key)) for key in keys)
        if len(keys) <= FEW_VIDEOS:
            return map(check_video, jobs)
        return run_jobs(check_video, jobs, workers=min(self.workers, len(keys)))

    def _job(self, key: str, entry: Entry | None) -> VideoJob:
        return VideoJob(self.path, key, entry, self.parameters)

    def _video_faults(self, state: VideoState) -> Iterator[Fault]:
        if state.problems and self.company == "others":
            state = self._checked_again(state)
        if not state.problems:
            return
        if state.entry is None:
            self.rows.pop(state.key, None)
        else:
            self.rows[state.key] = state.entry
        self.index_changes |= self.rows.get(state.key) != self.index.entries.get(state.key)
        for problem in state.problems:
            # An index that is made again anyway needs no fault for each row that it lacks.
            if self.index.is_sound or problem.repair != ENTER:
                action = partial(self._repair_video, state)
                yield Fault(state.where, f"{problem.view}: {problem.what}", problem.repair, action)

    def _checked_again(self, state: VideoState) -> VideoState:
        """Check a video as it is now: another process may have replaced it, or be about to."""
        entry = None
        with suppress(SlicError, UnicodeError), closing(Index(self.index_file)) as index:
            entry = index.entry(state.where)
        if entry is None or entry.key != state.key:
            return VideoState(state.key, state.where, None)
        return check_video(self._job(state.key, entry))

    def _repair_video(self, state: VideoState) -> None:
        self._write_index()  # first, so that no row is ever without its array
        for view in state.damaged:
            aside = self.path / "index" / "writing" / aside_name(state.key)
            aside.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                (self.path / view / state.key).rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _write_index(self) -> None:
        if self.index_changes:
            write_index(self.index_file, self.rows.values())
            self.index_changes = False

    def _index_faults(self) -> Iterator[Fault]:
        sound = self.rows.keys() & self.index.entries.keys()
        new = len(self.rows) - len(sound)
        repair = f"rebuild the index from {counted(len(sound), 'sound row')}"
        repair += f" and {counted(new, 'array')}; `slic prep frames` adds labels" * bool(new)
        file = "index/index.sqlite"
        broken = [(f"{file}: {video}", "damaged row") for video in self.index.broken]
        found = [(file, self.index.problem)] if self.index.problem else broken
        return (Fault(where, what, repair, self._write_index) for where, what in found)

    def _stray_faults(self) -> Iterator[Fault]:
        for item in store_leftovers(self.path, self.company):
            where = item.relative_to(self.path).as_posix()
            yield Fault(where, "left by a killed writer", "remove it", partial(remove, item))
        for place, expected in _EXPECTED.items():
            for item in _listed(self.path / place):
                ours = item.name in expected or _ASIDE.fullmatch(item.name)
                if not ours and not (place in VIEWS and _is_key(item)):
                    where = item.relative_to(self.path).as_posix()
                    yield Fault(where, "not a slic file; it is left in place")
