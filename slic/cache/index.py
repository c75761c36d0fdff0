"""The index of a clip store: one row a video, in one SQLite file.

Writers of several processes share it by SQLite's own locks; a row is entered only after the
video's array is whole and in place.
"""

import contextlib
import errno
import gc
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from slic.cache.row_sums import SUM, add_sums, summed_rows
from slic.cache.untrusted import check_schema, connect_guarded, is_sound_row, sound_rows
from slic.datasets.videos import Video
from slic.errors import DiskError, SlicError, StoreError
from slic.runtime.disk import AGAIN, to_disk_error
from slic.runtime.text import escape

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
_TYPES |= {SUM: "INTEGER"}


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
            with self._write():
                pass  # make the file and its table

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "writable": self.writable, "_connection": None, "_owner": 0}

    def entries(self, *, failed: bool | None = None) -> list[Entry]:
        """All rows, or only those of the videos that failed or did not, in order of id."""
        rows = self._query(COLUMNS, f"{_WHERE[failed]} ORDER BY id")
        texts: dict[str, str] = {}
        with _collector_paused():
            return [_lean_entry(row, texts.setdefault) for row in rows]

    def entry(self, video_id: str) -> Entry | None:
        """One row, or None."""
        rows = list(self._query(COLUMNS, "WHERE id = ?", video_id))
        return Entry(*rows[0]) if rows else None

    def rows(self, *columns: str) -> Iterator[tuple]:
        """Some fields of the videos that are stored, in order of id; much quicker than entries.

        They are read as they are taken; until the last is, nobody can write.
        """
        return self._query(columns, f"{_WHERE[False]} ORDER BY id")

    def salvage(self) -> Iterator[tuple[Entry, bool]]:
        """Yield every row of an index that may be damaged, and whether the row is sound.

        Raises:
            StoreError: no more rows can be read; or, after the last row, SQLite finds damage.
            DiskError: it is locked, or the system refuses to read it.
        """
        with self._reading():
            connection = self._open()
            for cells, sound in summed_rows(connection, COLUMNS):
                yield Entry(*cells), sound and is_sound_row(COLUMNS, cells)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found).splitlines()[-1])

    def put(self, *entries: Entry) -> None:
        """Enter or replace rows, durably, all or none of them."""
        marks = ", ".join("?" * len(COLUMNS))
        with self._write() as connection:
            sql = f"INSERT OR REPLACE INTO videos ({_QUOTED}) VALUES ({marks})"
            connection.executemany(sql, map(astuple, entries))

    def forget_flow(self, video_ids: Iterable[str]) -> None:
        """Let videos count as without flow."""
        rows = [(video_id,) for video_id in video_ids]
        if rows:
            with self._write() as connection:
                connection.executemany("UPDATE videos SET flow = NULL WHERE id = ?", rows)

    def set_flow(self, entry: Entry, flow: str) -> bool:
        """Note the fingerprint of the flow computed from an entry's frames.

        Returns:
            Whether it was: not where these frames have been replaced meanwhile.
        """
        sql = "UPDATE videos SET flow = ? WHERE id = ? AND source_digest IS ? AND settings IS ?"
        values = (flow, entry.id, entry.source_digest, entry.settings)
        with self._write() as connection:
            return connection.execute(sql, values).rowcount == 1

    def remove(self, video_ids: Iterable[str]) -> None:
        """Forget videos."""
        rows = [(video_id,) for video_id in video_ids]
        with self._write() as connection:
            connection.executemany("DELETE FROM videos WHERE id = ?", rows)

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

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process writes."""
        with self._write() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    def _query(self, columns: Sequence[str], which: str, *values: object) -> Iterator[tuple]:
        quoted = ", ".join(f'"{name}"' for name in columns)
        with self._reading():
            rows = self._open().execute(f"SELECT {quoted} FROM videos {which}", values)
            yield from sound_rows(rows, columns)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._failure("read", error) from error
        except UnicodeDecodeError as error:  # of a complaint that quotes the file
            raise self._failure("read", sqlite3.DatabaseError("it is damaged")) from error

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if not self.writable:
            raise StoreError(f"{self.path}: the index is open for reading only")
        try:
            with self._open() as connection:
                yield connection
        except sqlite3.Error as error:
            raise self._failure("written", error) from error

    def _failure(self, done: str, error: sqlite3.Error) -> SlicError:
        said = f"{self.path}: the index cannot be {done} ({escape(error)})"
        # Locks and full disks have codes of their own; a table that is missing, or a text that is
        # no UTF-8, has none.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        damaged = isinstance(error, sqlite3.DataError) or code == sqlite3.SQLITE_ERROR
        if type(error) is sqlite3.DatabaseError or damaged:
            return StoreError(f"{said}; run `slic cache verify {self.path.parent.parent}`")
        refusal = self._refusal(error)
        return to_disk_error(self.path, refusal) if refusal else DiskError(f"{said}; {AGAIN}")

    def _refusal(self, error: sqlite3.Error) -> OSError | None:
        """What the system said: SQLite does not pass it on."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if code == sqlite3.SQLITE_READONLY:
            return OSError(errno.EROFS, os.strerror(errno.EROFS))
        try:
            os.close(os.open(self.path, os.O_RDWR if self.writable else os.O_RDONLY))
        except OSError as found:
            return found
        return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            self._leave_to_parent()
            # A reader must be able to roll back what a killed writer left; SQLite itself falls
            # back to reading where the file cannot be written.
            mode = "rwc" if self.writable else "rw"
            connection = connect_guarded(self.path, mode=mode, timeout=LOCK_TIMEOUT_S)
            try:
                check_schema(connection, COLUMNS)
                if self.writable:
                    _prepare(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._owner = connection, os.getpid()
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


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the table where it is missing, and let this connection sum up what it writes."""
    columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}' for name in (*COLUMNS, SUM))
    with connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS videos ({columns}) WITHOUT ROWID")
    add_sums(connection, COLUMNS)


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
