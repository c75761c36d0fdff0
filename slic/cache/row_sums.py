"""Checksums of an index's rows: SQLite's file has none, and a flipped bit in a label reads well."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence

import google_crc32c

SUM = "crc32c"


def row_sum(*cells: object) -> int:
    """Checksum of a row's fields, as SQLite returns them."""
    return google_crc32c.value(ascii(cells).encode())


def add_sums(connection: sqlite3.Connection, columns: Sequence[str]) -> None:
    """Let a connection sum up every row that it writes, by triggers of its own."""
    if SUM not in _columns(connection):
        with contextlib.suppress(sqlite3.OperationalError):  # another process was quicker
            connection.execute(f'ALTER TABLE videos ADD COLUMN "{SUM}" INTEGER')
    connection.create_function("row_sum", len(columns), row_sum, deterministic=True)
    connection.execute("PRAGMA temp_store = MEMORY")
    cells = ", ".join(f'NEW."{name}"' for name in columns)
    for event in ("INSERT", f"UPDATE OF {_quoted(columns)}"):
        connection.execute(
            f"CREATE TEMP TRIGGER sum_{event[:6]} AFTER {event} ON main.videos BEGIN"
            f' UPDATE videos SET "{SUM}" = row_sum({cells}) WHERE id = NEW.id; END'
        )


def summed_rows(
    connection: sqlite3.Connection, columns: Sequence[str]
) -> Iterator[tuple[list, bool]]:
    """Every row, whatever is in it, and whether its checksum bears it out.

    Rows entered before they had checksums count as sound.

    Raises:
        sqlite3.Error: no more rows can be read.
    """
    connection.text_factory = lambda data: data.decode(errors="surrogateescape")
    total = f'"{SUM}"' if SUM in _columns(connection) else "NULL"
    for *cells, found in connection.execute(f"SELECT {_quoted(columns)}, {total} FROM videos"):
        yield cells, found is None or found == row_sum(*cells)


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [name for _, name, *_ in connection.execute("PRAGMA table_info(videos)")]


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
