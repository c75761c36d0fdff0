"""A store's index as it is, row by row; and made anew."""

import os
import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from slic.cache import Entry, video_key
from slic.cache.index import COLUMNS, LOCK_TIMEOUT_S, Index
from slic.cache.row_sums import summed_rows
from slic.cache.untrusted import check_schema, connect_guarded, is_sound_row
from slic.errors import DiskError, StoreError
from slic.runtime.disk import AGAIN, disk_errors_at, raise_if_unreadable, sync
from slic.runtime.regular_files import check_regular

_REFUSALS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_FULL,
}
SIDE_FILES = ("index.sqlite-journal", "index.sqlite-wal", "index.sqlite-shm")


@dataclass
class Rows:
    """What an index holds.

    Attributes:
        entries: the sound rows, by key.
        broken: ids of the others, as far as they can be read.
        complaint: what is wrong with the file itself, or None.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    complaint: str | None = None


def read_rows(file: Path) -> Rows:
    """Every row of an index, whatever state it is in.

    Raises:
        DiskError: it is locked, or the system refuses to read it.
    """
    rows = Rows()
    if not file.is_file():
        rows.complaint = "is missing"
        return rows
    try:
        check_regular(file)
        connection = connect_guarded(file, mode="rw", timeout=LOCK_TIMEOUT_S)
    except (OSError, sqlite3.Error, StoreError) as error:
        _raise_refusal(file, error)
        rows.complaint = f"is damaged ({error})"
        return rows
    try:
        rows.complaint = _complaint(connection)
        check_schema(connection, COLUMNS)
        for cells, sound in summed_rows(connection, COLUMNS):
            _sort(rows, Entry(*cells), sound=sound and is_sound_row(COLUMNS, cells))
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        _raise_refusal(file, error)
        rows.complaint = rows.complaint or f"is damaged ({error})"
    finally:
        connection.close()
    return rows


def _raise_refusal(file: Path, error: Exception) -> None:
    """Raise what says nothing of the file's content: a lock, or what the system refuses."""
    raise_if_unreadable(file, error)
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSALS:
        raise DiskError(f"{file}: cannot be read ({error}); {AGAIN}") from error


def _complaint(connection: sqlite3.Connection) -> str | None:
    found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(1)")]
    return None if found == ["ok"] else f"is damaged ({found[0].splitlines()[-1]})"


def _sort(rows: Rows, entry: Entry, *, sound: bool) -> None:
    if sound and entry.key == video_key(entry.id):
        rows.entries[entry.key] = entry
    else:
        rows.broken.append(ascii(entry.id)[1:-1])


def make_index(file: Path, entries: Iterable[Entry]) -> None:
    """Write an index of these rows aside, and put it in place of what is there."""
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    index = Index(aside, writable=True)
    try:
        index.put(*entries)
        index.close()
        sync(aside)
        # The journal of the old file would be played back into the new one.
        with disk_errors_at(file):
            for name in SIDE_FILES:
                file.with_name(name).unlink(missing_ok=True)
            os.replace(aside, file)
            sync(file.parent)
    finally:
        index.close()
        aside.unlink(missing_ok=True)
