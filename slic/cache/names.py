"""Names that people gave to clusters: the csv that the report's page saves."""

import csv
import io
from collections.abc import Collection
from pathlib import Path

from slic.datasets.listing import read_text
from slic.errors import InputError
from slic.runtime.regular_files import brief
from slic.runtime.text import counted, escape, is_one_line

COLUMNS = ["clustering", "cluster", "name"]
LONGEST = 200  # characters
_DIGITS = 18


def read_names(
    path: Path, clustering: str | None = None, *, known: Collection[int] | None = None
) -> dict[int, str]:
    """Names of clusters, from a csv with the columns `clustering,cluster,name`.

    Args:
        path: UTF-8, with or without byte order mark; blank lines are skipped.
        clustering: of which they must be, such as `epoch00019`; if None, all of one, whichever.
        known: the clusters there are; any if None.

    Returns:
        `{cluster: name}`, names without blanks around them.

    Raises:
        InputError: not such a csv; the message names the line.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    named: dict[int, str] = {}
    try:
        _check_header(path, next(reader, []))
        for cells in reader:
            if not any(cells):
                continue
            where = f"{escape(path)} line {reader.line_num}"
            clustering, cluster, name = _row(where, cells, clustering)
            if known is not None and cluster not in known:
                raise InputError(f"{where}: {clustering} has no cluster {cluster}")
            if cluster in named:
                raise InputError(f"{where}: cluster {cluster} has a name already; keep one of them")
            named[cluster] = name
    except csv.Error as error:
        raise InputError(f"{escape(path)} line {reader.line_num}: not a csv: {error}") from None
    return named


def _check_header(path: Path, header: list[str]) -> None:
    if [cell.strip().lower() for cell in header] != COLUMNS:
        found = ",".join(escape(cell[:40]) for cell in header[: len(COLUMNS)]) or "none"
        raise InputError(
            f"{escape(path)} line 1: columns found: {found}; expected: {','.join(COLUMNS)}, as the"
            " report's page saves them"
        )


def _row(where: str, cells: list[str], clustering: str | None) -> tuple[str, int, str]:
    if len(cells) != len(COLUMNS):
        raise InputError(
            f"{where}: {counted(len(cells), 'cell')} under a header of {len(COLUMNS)}; quote names"
            " that hold a comma"
        )
    of, number, name = (cell.strip() for cell in cells)
    if clustering is not None and of != clustering:
        raise InputError(
            f"{where}: names a cluster of {brief(of)}, not of {clustering}: clusters are numbered"
            " anew in each clustering"
        )
    # int() takes digits of other scripts and underscores as well.
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS):
        raise InputError(f"{where}: {brief(number)} is no number of a cluster")
    if not name or len(name) > LONGEST or not is_one_line(name):
        raise InputError(f"{where}: a name is one line of 1 to {LONGEST} characters")
    return of, int(number), name
