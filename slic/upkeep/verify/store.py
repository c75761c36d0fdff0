"""`slic cache verify STORE`: everything in a clip store that is read, and what mends it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from slic.cache import Entry
from slic.cache.clipstore import FORMAT
from slic.cache.index import Index
from slic.cache.metadata import PARTS, group, read_metadata
from slic.cache.writers import Company, WriterLock, company_of, leftovers
from slic.errors import SlicError, StoreError
from slic.runtime.disk import raise_if_unreadable
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import progress
from slic.upkeep.verify.arrays import VideoJob, VideoState, check_video
from slic.upkeep.verify.parameters import Settings, fits_any, read_root, recovered
from slic.upkeep.verify.repairing import Mender, part_mend, root_mend
from slic.upkeep.verify.report import Fault, Report
from slic.upkeep.verify.rows import read_rows
from slic.upkeep.verify.strays import is_key, stray, stray_faults
from slic.upkeep.verify.video import Finding, Judge

FEW_VIDEOS = 50  # are read sooner than a process starts


def verify_store(path: Path, *, repair: bool = False, workers: int | None = None) -> Report:
    """Check a clip store, and repair it if asked to.

    Args:
        path: its folder.
        repair: drop what is broken, so that `prep` makes it again.
        workers: processes; all cores if None.

    Raises:
        StoreError: of a newer format; or to be repaired while another process writes it.
    """
    begin = time.monotonic()
    if repair:
        with WriterLock(path).alone() as company:
            if company == "others" or (company == "unknown" and _young(path)):
                raise StoreError(f"{path}: is being written by another process; repair it later")
            check = _Check(path, workers or available_cores(), company)
            report = check.report()
            report.mend()
            check.mender.close()
    else:
        report = _Check(path, workers or available_cores()).report()
    report.seconds = round(time.monotonic() - begin, 3)
    return report


def _young(path: Path) -> bool:
    writing = path / "index" / "writing"
    return writing.is_dir() and len(list(writing.iterdir())) > len(leftovers(path, "unknown"))


class _Check:
    """One check of a store.

    Args:
        path: its folder.
        workers: processes.
        company: who else is writing it, where that is known to last.
    """

    def __init__(self, path: Path, workers: int, company: Company | None = None) -> None:
        self.path, self.workers, self._company = path, workers, company
        self.rows = read_rows(path / "index" / "index.sqlite")
        self.mender = Mender(path, self.rows)
        self._index = Index(path / "index" / "index.sqlite")
        self.notes: list[str] = []

    @property
    def company(self) -> Company:
        """Who else is writing the store now."""
        return self._company or company_of(self.path)

    def report(self) -> Report:
        """Look at everything."""
        report = Report(str(self.path), "store", notes=self.notes)
        report.faults = [*self._root_faults(), *self._part_faults()]
        keys = self._keys()
        videos: list[Fault] = []
        size = 0
        with progress(len(keys), "verify", unit="MB") as advance:
            for state in self._states(keys):
                videos += self._video_faults(state)
                size += state.size
                advance(1, state.size / 1e6)
        report.faults += self.mender.index_faults()
        report.faults += sorted(videos, key=lambda fault: fault.where)
        report.faults += stray_faults(self.path, self.company)
        self._index.close()
        report.checked = {"videos": len(keys), "bytes": size}
        return report

    def _root_faults(self) -> Iterator[Fault]:
        attributes, complaint = read_root(self.path)
        entries = [entry for entry in self.rows.entries.values() if entry.reason is None]
        given = {view for view in ("frames", "flow") if view in attributes}
        wrong = {view for view in given if not fits_any(attributes[view], view, entries)}
        if wrong and not complaint:
            complaint = f"its parameters of {' and '.join(sorted(wrong))} are no stored video's"
        if complaint:
            kept: Settings = {view: attributes[view] for view in given - wrong}
            attributes = {"format": FORMAT, **recovered(self.path, entries), **kept}
            known = [view for view in ("frames", "flow") if view in attributes]
            by = f"with the parameters of {' and '.join(known)}" if known else "without parameters"
            mend = root_mend(self.path, group(attributes))
            yield Fault("zarr.json", complaint, f"write it anew, {by}", mend)
        self.judge = Judge(attributes.get("frames"), attributes.get("flow"))
        if entries and self.judge.frames is None:
            self.notes.append("parameters of frames are not recorded; `slic prep frames` does that")

    def _part_faults(self) -> Iterator[Fault]:
        for name, wanted in PARTS.items():
            kind = ("zarr_format", "node_type", "attributes")
            try:
                found = read_metadata(self.path / name / "zarr.json")
                sound = all(found.get(key) == wanted[key] for key in kind)
            except (OSError, ValueError, RecursionError) as error:
                raise_if_unreadable(self.path / name, error)
                sound = False
            if not sound:
                mend = part_mend(self.path, name)
                yield Fault(f"{name}/zarr.json", "is missing or damaged", "write it anew", mend)

    def _keys(self) -> list[str]:
        folders = [self.path / view for view in ("frames", "flow")]
        there = [item for folder in folders if folder.is_dir() for item in folder.iterdir()]
        return sorted({*self.rows.entries, *(item.name for item in there if is_key(item))})

    def _states(self, keys: list[str]) -> Iterator[VideoState]:
        jobs = (VideoJob(self.path, key) for key in keys)
        if len(keys) <= FEW_VIDEOS:
            return map(check_video, jobs)
        return run_jobs(check_video, jobs, workers=min(self.workers, len(keys)))

    def _video_faults(self, state: VideoState) -> Iterator[Fault]:
        for finding in self._findings(state):
            if fault := self.mender.fault(finding, state.key):
                yield fault
        for view, array in (("frames", state.frames), ("flow", state.flow)):
            for name in array.strays if array else ():
                yield stray(f"{view}/{state.key}/{name}")

    def _findings(self, state: VideoState) -> list[Finding]:
        found = list(self.judge.findings(self.rows.entries.get(state.key), state))
        if not found or self.company != "others":
            return found
        # Another process may have replaced it meanwhile, or be about to enter it.
        entry = self._row_now(state)
        again = check_video(VideoJob(self.path, state.key))
        return list(self.judge.findings(entry, again)) if entry else []

    def _row_now(self, state: VideoState) -> Entry | None:
        """A video's row as it is at this moment."""
        known = self.rows.entries.get(state.key)
        told = (state.frames and state.frames.attributes) or {}
        video = known.id if known else told.get("id")
        # What is wrong with the index has been told.
        with contextlib.suppress(SlicError, UnicodeError):
            entry = self._index.entry(video) if isinstance(video, str) else None
            return entry if entry and entry.key == state.key else None
        return None
