"""Validation of an index: its file, its table, and its rows, which have checksums.

SQLite's file has no checksums, and a flipped bit in a label still reads as a label. SQLite's page
"Defense Against The Dark Arts" lists what a file that somebody else made must not be allowed.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from slic.cache.entries import COLUMNS
from slic.errors import StoreError
from slic.runtime.text import is_one_line

SUM = "crc32c"
_BATCH = 256  # rows checked at a time
_LARGEST = {"frames": 2**31 - 1, "height": 65_535, "width": 65_535}  # pixels, as of a JPEG
_NUMBERS = {*_LARGEST, "fps", "source_bytes", "source_mtime_ns"}
_REQUIRED = {"id", "key", "path"}
_PRINTED = {"id", "path", "label", "group"}
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")


def connect(path: Path, *, mode: str, timeout: float) -> sqlite3.Connection:
    """Open a connection through which the file can neither run code nor delete other files.

    Raises:
        StoreError: its journal names another file.
        sqlite3.Error: it cannot be opened, or it holds more than a table of videos.
    """
    _refuse_super_journal(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=False)
    try:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        _check_schema(connection)
    except Exception:
        connection.close()
        raise
    return connection


def _refuse_super_journal(path: Path) -> None:
    # When SQLite rolls back, it deletes the file that the end of a journal names. Ours name none,
    # because no second database is ever attached.
    try:
        with open(f"{os.path.realpath(path)}-journal", "rb") as journal:
            journal.seek(-len(_SUPER_JOURNAL), os.SEEK_END)
            end = journal.read()
    except OSError:  # missing, or too short
        return
    if end == _SUPER_JOURNAL:
        raise StoreError(f"{path}-journal: names another file to delete; do not use this store")


def _check_schema(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError for views, triggers, virtual tables, and missing columns."""
    made = connection.execute("SELECT type, sql FROM sqlite_master").fetchall()
    for kind, sql in made:
        if kind not in ("table", "index") or str(sql).upper().split()[:2] == ["CREATE", "VIRTUAL"]:
            raise sqlite3.DatabaseError(f"it contains a {kind} that slic did not create")
    found = _columns(connection)
    # Computed columns are not listed. For a missing one, SQLite would take its name as a text.
    missing = [name for name in COLUMNS if name not in found]
    if made and missing:
        raise sqlite3.DatabaseError(f"its table of videos lacks {', '.join(missing)}")


def checked_rows(cursor: sqlite3.Cursor, columns: Sequence[str]) -> Iterator[tuple]:
    """Yield rows after checking that their cells are such as `Entry` describes.

    Raises:
        sqlite3.DatabaseError: a cell is not.
    """
    while rows := cursor.fetchmany(_BATCH):
        for name, cells in zip(columns, zip(*rows, strict=True), strict=True):
            if reason := _cells_fault(name, cells):
                raise sqlite3.DatabaseError(f"a row's {name} {reason}")
        yield from rows


def _cells_fault(name: str, cells: Sequence[Any]) -> str | None:
    values = [cell for cell in cells if cell is not None]
    if name in _REQUIRED and len(values) < len(cells):
        return "is missing"
    if not all(isinstance(value, (int, float) if name in _NUMBERS else str) for value in values):
        return "has another type than slic writes"
    if name in _LARGEST and values and not 1 <= min(values) <= max(values) <= _LARGEST[name]:
        return "is out of range"
    # Printable text has no line break; checking all at once is much faster.
    printed = name in _PRINTED and not "".join(values).isprintable()
    return "holds NUL or a line break" if printed and not all(map(is_one_line, values)) else None


def row_sum(*cells: object) -> int:
    """Return the checksum of a row's fields, given as SQLite returns them."""
    return google_crc32c.value(ascii(cells).encode())


def add_sums(connection: sqlite3.Connection) -> None:
    """Make a connection write the checksum of every row that it changes."""
    if SUM not in _columns(connection):
        with contextlib.suppress(sqlite3.OperationalError):  # another process added it first
            connection.execute(f'ALTER TABLE videos ADD COLUMN "{SUM}" INTEGER')
    connection.create_function("row_sum", len(COLUMNS), row_sum, deterministic=True)
    connection.execute("PRAGMA temp_store = MEMORY")
    cells = ", ".join(f'NEW."{name}"' for name in COLUMNS)
    for event in ("INSERT", f"UPDATE OF {quoted(COLUMNS)}"):
        connection.execute(
            f"CREATE TEMP TRIGGER sum_{event[:6]} AFTER {event} ON main.videos BEGIN"
            f' UPDATE videos SET "{SUM}" = row_sum({cells}) WHERE id = NEW.id; END'
        )


def summed_rows(connection: sqlite3.Connection) -> Iterator[tuple[list, bool]]:
    """Yield every row, whatever it holds, and whether it is sound.

    Rows that were entered before there were checksums count as sound if their cells are.

    Raises:
        sqlite3.Error: no more rows can be read.
    """
    connection.text_factory = lambda data: data.decode(errors="surrogateescape")
    total = f'"{SUM}"' if SUM in _columns(connection) else "NULL"
    for *cells, found in connection.execute(f"SELECT {quoted(COLUMNS)}, {total} FROM videos"):
        sound = found is None or found == row_sum(*cells)
        row = zip(COLUMNS, cells, strict=True)
        yield cells, sound and not any(_cells_fault(name, [cell]) for name, cell in row)


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [name for _, name, *_ in connection.execute("PRAGMA table_info(videos)")]


def quoted(columns: Sequence[str]) -> str:
    """Join names of columns for an SQL statement."""
    return ", ".join(f'"{name}"' for name in columns)
