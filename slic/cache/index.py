"""The index of a clip store: one row a video, in one SQLite file.

Writers of several processes share it by SQLite's own locks; a row is entered only after the
video's array is whole and in place.
"""

import contextlib
import gc
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from slic.errors import StoreError
from slic.videos import Video

SPLITS = (1, 2, 3)
_INHERITED: list[sqlite3.Connection] = []
LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index holds of one video.

    Attributes:
        id: the video's id (its path inside the data set).
        key: name of its arrays under `frames/` and `flow/`.
        path: path inside the data set, with `/`.
        label: class name, or None.
        group: clips of one group share scene and actors, or None.
        split1, split2, split3: `train`, `test`, `unused`, or None where there is no such split.
        frames: frames stored; None where decoding failed.
        height, width: pixels, as stored.
        fps: frames a second of the source.
        settings: fingerprint of the frame parameters it was stored with.
        source_bytes, source_mtime_ns, source_digest: the file that was decoded.
        reason: why it could not be stored, or None.
        remark: what was odd though it was stored, or None.
        flow: fingerprint of the flow stored beside the frames, or None.
    """

    id: str
    key: str
    path: str
    label: str | None
    group: str | None
    split1: str | None
    split2: str | None
    split3: str | None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    settings: str | None = None
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    source_digest: str | None = None
    reason: str | None = None
    remark: str | None = None
    flow: str | None = None

    def split(self, number: int) -> str | None:
        """`train`, `test` or `unused` in a split, or None where there is no such split."""
        return {1: self.split1, 2: self.split2, 3: self.split3}.get(number)


COLUMNS = tuple(f.name for f in fields(Entry))
_QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
_PATH = COLUMNS.index("path")  # often the id
_REPEATED = [COLUMNS.index(name) for name in (*COLUMNS[3:8], "settings")]
_WHERE = {None: "", True: "WHERE reason IS NOT NULL", False: "WHERE reason IS NULL"}
_TYPES = {"frames": "INTEGER", "height": "INTEGER", "width": "INTEGER", "fps": "REAL"}
_TYPES |= {"source_bytes": "INTEGER", "source_mtime_ns": "INTEGER", "id": "TEXT PRIMARY KEY"}


class Index:
    """The rows of a store; safe to use from forked and spawned processes.

    Args:
        path: the SQLite file.
        writable: open for writing, creating the file and its table where they are missing.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self.writable = writable
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        if writable:
            columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}' for name in COLUMNS)
            with self._write() as connection:
                connection.execute(f"CREATE TABLE IF NOT EXISTS videos ({columns}) WITHOUT ROWID")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "writable": self.writable, "_connection": None, "_owner": 0}

    def entries(self, *, failed: bool | None = None) -> list[Entry]:
        """All rows, or only those of the videos that failed or did not, in order of id."""
        rows = self._query(f"SELECT {_QUOTED} FROM videos {_WHERE[failed]} ORDER BY id")
        texts: dict[str, str] = {}
        with _collector_paused():
            return [_lean_entry(row, texts.setdefault) for row in rows]

    def entry(self, video_id: str) -> Entry | None:
        """One row, or None."""
        rows = list(self._query(f"SELECT {_QUOTED} FROM videos WHERE id = ?", video_id))
        return Entry(*rows[0]) if rows else None

    def rows(self, *columns: str) -> Iterator[tuple]:
        """Some fields of the videos that are stored, in order of id; much quicker than entries.

        They are read as they are taken; until the last is, nobody can write.
        """
        quoted = ", ".join(f'"{name}"' for name in columns)
        return self._query(f"SELECT {quoted} FROM videos {_WHERE[False]} ORDER BY id")

    def put(self, entry: Entry) -> None:
        """Enter or replace one row, durably."""
        marks = ", ".join("?" * len(COLUMNS))
        with self._write() as connection:
            sql = f"INSERT OR REPLACE INTO videos ({_QUOTED}) VALUES ({marks})"
            connection.execute(sql, astuple(entry))

    def forget_flow(self, video_ids: Iterable[str]) -> None:
        """Let videos count as without flow."""
        rows = [(video_id,) for video_id in video_ids]
        if rows:
            with self._write() as connection:
                connection.executemany("UPDATE videos SET flow = NULL WHERE id = ?", rows)

    def set_flow(self, video_id: str, flow: str | None) -> None:
        """Note the fingerprint of a video's flow."""
        with self._write() as connection:
            connection.execute("UPDATE videos SET flow = ? WHERE id = ?", (flow, video_id))

    def set_mtimes(self, times: Mapping[str, int]) -> None:
        """Note newer times of source files whose content is the same, `{id: nanoseconds}`."""
        rows = [(time, video_id) for video_id, time in times.items()]
        with self._write() as connection:
            connection.executemany("UPDATE videos SET source_mtime_ns = ? WHERE id = ?", rows)

    def relabel(self, videos: Iterable[Video]) -> int:
        """Renew label, group and splits of the videos already entered; how many changed."""
        rows = [(v.label, v.group, *(v.splits.get(n) for n in SPLITS), v.id) for v in videos]
        changed = [f'"{c}" IS NOT ?{i}' for i, c in enumerate(COLUMNS[3:8], start=1)]
        columns = ", ".join(f'"{c}" = ?{i}' for i, c in enumerate(COLUMNS[3:8], start=1))
        sql = f"UPDATE videos SET {columns} WHERE id = ?6 AND ({' OR '.join(changed)})"
        with self._write() as connection:
            return connection.executemany(sql, rows).rowcount

    def _query(self, sql: str, *values: object) -> Iterator[tuple]:
        try:
            yield from self._open().execute(sql, values)
        except sqlite3.Error as error:
            raise StoreError(self._said("read", error)) from error

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if not self.writable:
            raise StoreError(f"{self.path}: the index is open for reading only")
        try:
            with self._open() as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(self._said("written", error)) from error

    def _said(self, done: str, error: sqlite3.Error) -> str:
        # Locks and full disks are OperationalErrors; what is no database at all is not.
        damaged = type(error) is sqlite3.DatabaseError
        advice = "; delete it and run `slic prep frames` again" if damaged else ""
        return f"{self.path}: the index cannot be {done} ({error}){advice}"

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            self._leave_to_parent()
            # A reader must be able to roll back what a killed writer left; SQLite itself falls
            # back to reading where the file cannot be written.
            mode = "rwc" if self.writable else "rw"
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=LOCK_TIMEOUT_S, check_same_thread=False
            )
            self._owner = os.getpid()
        return self._connection

    def close(self) -> None:
        """Close the connection of this process."""
        self._leave_to_parent()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _leave_to_parent(self) -> None:
        # A connection must not cross a fork, not even to be closed: that would roll back, on
        # disk, what the parent is writing.
        if self._connection is not None and self._owner != os.getpid():
            _INHERITED.append(self._connection)
            self._connection = None


def _lean_entry(row: tuple, one: Callable[[str, str], str]) -> Entry:
    """An entry whose repeated texts are the same objects as its fellows'."""
    cells = list(row)
    for place in _REPEATED:
        cells[place] = one(cells[place], cells[place])
    if cells[_PATH] == row[0]:
        cells[_PATH] = row[0]
    return Entry(*cells)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Without Python's cycle collector, which would walk a growing list again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
