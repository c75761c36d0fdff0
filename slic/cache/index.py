"""The index of a clip store: one row per video, in one SQLite file.

Writers in several processes share it through SQLite's own locks. A row is entered only after the
video's array is complete and in place.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from slic.cache.entries import COLUMNS, SPLITS, Entry
from slic.cache.index_rows import SUM, add_sums, checked_rows, connect, quoted, summed_rows
from slic.datasets.videos import Video
from slic.errors import DiskError, SlicError, StoreError
from slic.runtime.disk import AGAIN, to_disk_error
from slic.runtime.text import escape

LOCK_TIMEOUT_S = 60.0
_INHERITED: list[sqlite3.Connection] = []  # from the parent process; must never be closed
_PATH = COLUMNS.index("path")  # often equals the id
_LABELS = COLUMNS[3:8]  # label, group and splits
_SHARED = [COLUMNS.index(name) for name in (*_LABELS, "settings")]
_WHERE = {None: "", True: "WHERE reason IS NOT NULL", False: "WHERE reason IS NULL"}
_TYPES = dict.fromkeys(("frames", "height", "width", "source_bytes", "source_mtime_ns"), "INTEGER")
_TYPES |= {"fps": "REAL", "id": "TEXT PRIMARY KEY", SUM: "INTEGER"}
_ERRNO = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}


class Index:
    """The rows of a store; safe to use from forked and spawned processes.

    Args:
        path: the SQLite file.
        writable: open for writing, creating the file and its table if they are missing.

    Raises:
        StoreError: from every method: the file is damaged, or not an index.
        DiskError: from every method: it is locked, or the system refuses.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self.writable = writable
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        if writable:
            with self._writing():
                pass  # create the file and its table

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "writable": self.writable, "_connection": None, "_owner": 0}

    def entries(self, *, failed: bool | None = None) -> list[Entry]:
        """Return all rows in order of id; or only those of videos that failed, or did not."""
        strings: dict[str, str] = {}
        rows = self._query(COLUMNS, f"{_WHERE[failed]} ORDER BY id")
        return [_lean_entry(row, strings.setdefault) for row in rows]

    def entry(self, video_id: str) -> Entry | None:
        """Return one row, or None."""
        rows = list(self._query(COLUMNS, "WHERE id = ?", video_id))
        return Entry(*rows[0]) if rows else None

    def rows(self, *columns: str) -> Iterator[tuple]:
        """Yield some fields of the stored videos, in order of id; much faster than `entries`.

        Nobody can write until the last row has been taken.
        """
        return self._query(columns, f"{_WHERE[False]} ORDER BY id")

    def salvage(self) -> Iterator[tuple[Entry, bool]]:
        """Yield every row of an index that may be damaged, and whether the row is sound.

        Raises:
            StoreError: no more rows can be read; or, after the last row, SQLite finds damage.
            DiskError: it is locked, or the system refuses to read it.
        """
        with self._errors("read"):
            connection = self._open()
            for cells, sound in summed_rows(connection):
                yield Entry(*cells), sound
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found).splitlines()[-1])

    def put(self, *entries: Entry) -> None:
        """Insert or replace rows, durably; all of them or none."""
        marks = ", ".join("?" * len(COLUMNS))
        sql = f"INSERT OR REPLACE INTO videos ({quoted(COLUMNS)}) VALUES ({marks})"
        self._write_rows(sql, map(astuple, entries))

    def forget_flow(self, video_ids: Iterable[str]) -> None:
        """Record that videos have no flow."""
        rows = [(video_id,) for video_id in video_ids]
        if rows:
            self._write_rows("UPDATE videos SET flow = NULL WHERE id = ?", rows)

    def set_flow(self, entry: Entry, flow: str) -> bool:
        """Record the fingerprint of the flow computed from an entry's frames.

        Returns:
            False, and nothing is recorded, if these frames have been replaced meanwhile.
        """
        sql = "UPDATE videos SET flow = ? WHERE id = ? AND source_digest IS ? AND settings IS ?"
        return self._write_rows(sql, [(flow, entry.id, entry.source_digest, entry.settings)]) == 1

    def set_mtimes(self, times: Mapping[str, int]) -> None:
        """Record new modification times of unchanged source files, `{id: nanoseconds}`."""
        rows = [(time, video_id) for video_id, time in times.items()]
        self._write_rows("UPDATE videos SET source_mtime_ns = ? WHERE id = ?", rows)

    def relabel(self, videos: Iterable[Video]) -> int:
        """Update label, group and splits of videos in the index; return how many changed."""
        rows = [(v.label, v.group, *(v.splits.get(n) for n in SPLITS), v.id) for v in videos]
        changed = " OR ".join(f'"{c}" IS NOT ?{i}' for i, c in enumerate(_LABELS, start=1))
        columns = ", ".join(f'"{c}" = ?{i}' for i, c in enumerate(_LABELS, start=1))
        return self._write_rows(f"UPDATE videos SET {columns} WHERE id = ?6 AND ({changed})", rows)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing within the block."""
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    def _query(self, columns: Sequence[str], which: str, *values: object) -> Iterator[tuple]:
        with self._errors("read"):
            sql = f"SELECT {quoted(columns)} FROM videos {which}"
            yield from checked_rows(self._open().execute(sql, values), columns)

    def _write_rows(self, sql: str, rows: Iterable[tuple]) -> int:
        """Run a statement for each row in one transaction; return how many rows it changed."""
        with self._writing() as connection:
            return connection.executemany(sql, rows).rowcount

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self.writable:
            raise StoreError(f"{self.path}: the index is open for reading only")
        with self._errors("written"), self._open() as connection:
            yield connection

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(done, error) from error
        except UnicodeDecodeError as error:  # from a message of SQLite that quotes the file
            raise self._error(done, sqlite3.DatabaseError("it is damaged")) from error

    def _error(self, done: str, error: sqlite3.Error) -> SlicError:
        message = f"{self.path}: the index cannot be {done} ({escape(error)})"
        # Locks and full disks have codes of their own; a missing table, or a text that is not
        # UTF-8, has none.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        damaged = isinstance(error, sqlite3.DataError) or code == sqlite3.SQLITE_ERROR
        if type(error) is sqlite3.DatabaseError or damaged:
            return StoreError(f"{message}; run `slic cache verify {self.path.parent.parent}`")
        cause = self._system_error(code)
        return to_disk_error(self.path, cause) if cause else DiskError(f"{message}; {AGAIN}")

    def _system_error(self, code: int) -> OSError | None:
        """Find the system's error, which SQLite does not pass on."""
        if code in _ERRNO:
            return OSError(_ERRNO[code], os.strerror(_ERRNO[code]))
        try:
            os.close(os.open(self.path, os.O_RDWR if self.writable else os.O_RDONLY))
        except OSError as found:
            return found
        return None

    def _open(self) -> sqlite3.Connection:
        self._drop_inherited()
        if self._connection is None:
            # A reader must be able to roll back what a killed writer left; SQLite itself falls
            # back to reading if the file cannot be written.
            mode = "rwc" if self.writable else "rw"
            connection = connect(self.path, mode=mode, timeout=LOCK_TIMEOUT_S)
            try:
                if self.writable:
                    _prepare(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    def close(self) -> None:
        """Close this process's connection."""
        self._drop_inherited()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _drop_inherited(self) -> None:
        # A connection must not cross a fork, not even to be closed: that would roll back, on
        # disk, what the parent is writing.
        if self._connection is not None and self._owner != os.getpid():
            _INHERITED.append(self._connection)
            self._connection = None


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the table if it is missing, and make the connection write checksums."""
    columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}' for name in (*COLUMNS, SUM))
    with connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS videos ({columns}) WITHOUT ROWID")
    add_sums(connection)


def _lean_entry(row: tuple, share: Callable[[str, str], str]) -> Entry:
    """Make an entry whose repeated strings are the same objects as in the others: less memory."""
    cells = list(row)
    for place in _SHARED:
        cells[place] = share(cells[place], cells[place])
    if cells[_PATH] == row[0]:
        cells[_PATH] = row[0]
    return Entry(*cells)
