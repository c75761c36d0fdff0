"""How a store's faults are mended: rows first, then files, so that no row lacks its array."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from slic.cache import Entry
from slic.cache.index import Index
from slic.cache.metadata import PARTS, write_metadata
from slic.runtime.text import counted
from slic.upkeep.verify.arrays import drop_array
from slic.upkeep.verify.report import Fault
from slic.upkeep.verify.rows import Rows, make_index
from slic.upkeep.verify.video import Cure, Finding

_REPAIRS: dict[Cure, str] = {
    "video": "drop it; `slic prep frames` makes it again",
    "arrays": "drop it",
    "flow": "drop it; `slic prep flow` makes it again",
    "row": "enter it; `slic prep frames` gives labels again",
}


class Mender:
    """Mends one store.

    Args:
        path: its folder.
        rows: what its index holds.
    """

    def __init__(self, path: Path, rows: Rows) -> None:
        self.path, self.rows = path, rows
        self.told: list[Entry] = []
        self._index: Index | None = None

    @property
    def remakes(self) -> bool:
        """Whether the index as a whole is made anew."""
        return bool(self.rows.complaint or self.rows.broken)

    def index_faults(self) -> list[Fault]:
        """Those of the index itself, once it is known which rows the arrays tell."""
        file = "index/index.sqlite"
        rows, arrays = counted(len(self.rows.entries), "sound row"), len(self.told)
        made = f"make the index anew, of {rows} and {counted(arrays, 'array')}"
        made += "; `slic prep frames` gives labels again" * bool(self.told)
        if self.rows.complaint:
            return [Fault(file, self.rows.complaint, made, self._remake)]
        faults = [Fault(f"{file}: {video}", "damaged row", made) for video in self.rows.broken]
        return [Fault(f.where, f.what, f.repair, self._remake) for f in faults]

    def fault(self, finding: Finding, key: str) -> Fault | None:
        """A video's fault; None if it is one of the index that is made anew anyway."""
        if finding.row is not None:
            self.told.append(finding.row)
            if self.remakes:
                return None
        what = f"{finding.view}: {finding.what}"
        return Fault(finding.where, what, _REPAIRS[finding.cure], self._mend(finding, key))

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def _mend(self, finding: Finding, key: str) -> Callable[[], None]:
        entry = self.rows.entries.get(key)
        folders = [self.path / "flow" / key]
        if finding.cure != "flow":
            folders.append(self.path / "frames" / key)

        def mend() -> None:
            if finding.row is not None:
                self._opened().put(finding.row)
                return
            if entry and finding.cure == "video":
                self._opened().remove([entry.id])
            if entry and finding.cure == "flow":
                self._opened().forget_flow([entry.id])
            for folder in folders:
                drop_array(folder)

        return mend

    def _opened(self) -> Index:
        if self._index is None:
            self._index = Index(self.path / "index" / "index.sqlite", writable=True)
        return self._index

    def _remake(self) -> None:
        if self._index is None:  # else that has been done already
            (self.path / "index" / "writing").mkdir(parents=True, exist_ok=True)
            entries = {e.key: e for e in self.told} | self.rows.entries
            make_index(self.path / "index" / "index.sqlite", entries.values())
            self._opened()


def part_mend(path: Path, name: str) -> Callable[[], None]:
    """Writes the zarr.json of a part of a store, which is always the same."""

    def mend() -> None:
        (path / name).mkdir(exist_ok=True)
        write_metadata(path / name / "zarr.json", PARTS[name])

    return mend


def root_mend(path: Path, document: dict) -> Callable[[], None]:
    """Writes a store's own zarr.json."""
    return partial(write_metadata, path / "zarr.json", document)
