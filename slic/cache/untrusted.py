"""The index as a stranger may have made it: what SQLite may not do for it, and what rows may hold.

After SQLite's page "Defense Against The Dark Arts".
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slic.datasets.listing import LONGEST_NAME
from slic.errors import StoreError
from slic.runtime.text import is_one_line

LARGEST_CELL = 1 << 20  # bytes
AT_ONCE = 256
MOST_FRAMES = 2**31 - 1
WIDEST = 65_535  # pixels, as of a JPEG
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_NONE = type(None)
_TEXT, _NUMBER = frozenset((str, _NONE)), frozenset((int, _NONE))
_KINDS: dict[str, frozenset[type]] = dict.fromkeys(("id", "key", "path"), frozenset((str,)))
_KINDS |= dict.fromkeys(("source_bytes", "source_mtime_ns"), _NUMBER)
_MOST = {"frames": MOST_FRAMES, "height": WIDEST, "width": WIDEST}
_KINDS |= dict.fromkeys(_MOST, _NUMBER) | {"fps": _NUMBER | {float}}
_SHOWN = ("id", "path", "label", "group")


class _Connection(sqlite3.Connection):
    """One whose complaints of a damaged file, which may quote it, are errors of SQLite as well."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError:
            raise sqlite3.DatabaseError("it is damaged") from None


def connect_guarded(path: Path, *, mode: str, timeout: float) -> sqlite3.Connection:
    """A connection for which the file cannot run code, write elsewhere, or fill memory.

    Raises:
        StoreError: its journal names another file.
        sqlite3.Error: it cannot be opened.
    """
    _refuse_super_journal(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, check_same_thread=False, factory=_Connection
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_CELL)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _refuse_super_journal(path: Path) -> None:
    # Rolling back, SQLite deletes the file that the end of a journal names; ours names none, as
    # no second database is ever attached.
    try:
        with open(f"{os.path.realpath(path)}-journal", "rb") as journal:
            journal.seek(-len(_SUPER_JOURNAL), os.SEEK_END)
            end = journal.read()
    except OSError:  # none, or too short
        return
    if end == _SUPER_JOURNAL:
        raise StoreError(f"{path}-journal: names another file to delete; do not use this store")


def check_schema(connection: sqlite3.Connection, columns: Iterable[str]) -> None:
    """Refuse an index that is more than plain tables, or whose table lacks columns.

    A file in which nothing has been made yet passes.

    Raises:
        sqlite3.DatabaseError: it is refused; the message is the reason.
    """
    made = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    for kind, name, sql in made:
        words = str(sql).upper().split(None, 2)
        if kind not in ("table", "index") or words[:2] == ["CREATE", "VIRTUAL"]:
            raise sqlite3.DatabaseError(f"it holds a {kind} of a foreign kind, {str(name)[:60]!a}")
    found = {row[1]: row[6] for row in connection.execute("PRAGMA table_xinfo(videos)")}
    if made and not found:
        raise sqlite3.DatabaseError("it holds no table of videos")
    if any(found.values()):
        raise sqlite3.DatabaseError("its table computes columns")
    # SQLite would take the quoted name of a missing column for a text.
    missing = [name for name in columns if name not in found]
    if found and missing:
        raise sqlite3.DatabaseError(f"its table lacks {', '.join(missing)}")


def sound_rows(cursor: sqlite3.Cursor, columns: Sequence[str]) -> Iterator[tuple]:
    """The rows, as long as their cells are of the types and ranges that `Entry` names.

    Raises:
        sqlite3.DatabaseError: one is not.
    """
    while rows := cursor.fetchmany(AT_ONCE):
        for name, cells in zip(columns, zip(*rows, strict=True), strict=True):
            _check_cells(name, cells)
        yield from rows


def is_sound_row(columns: Sequence[str], cells: Sequence[Any]) -> bool:
    """Whether one row's cells are what `sound_rows` lets pass."""
    try:
        for name, cell in zip(columns, cells, strict=True):
            _check_cells(name, [cell])
    except (sqlite3.DatabaseError, UnicodeError):
        return False
    return True


def _check_cells(name: str, cells: Sequence[Any]) -> None:
    if not set(map(type, cells)) <= _KINDS.get(name, _TEXT):
        raise sqlite3.DatabaseError(f"a row's {name} is of another type than slic writes")
    # What is printable has no line break; few names are not.
    if (
        name in _SHOWN
        and not "".join(filter(None, cells)).isprintable()
        and not all(is_one_line(cell) for cell in cells if cell)
    ):
        raise sqlite3.DatabaseError(f"a row's {name} holds NUL or a line break")
    if name in _SHOWN and max(map(len, filter(None, cells)), default=0) > LONGEST_NAME:
        raise sqlite3.DatabaseError(f"a row's {name} is longer than any path")
    if name in _MOST:
        sizes = [cell for cell in cells if cell is not None]
        if sizes and not 1 <= min(sizes) <= max(sizes) <= _MOST[name]:
            raise sqlite3.DatabaseError(f"a row's {name} is no size")
