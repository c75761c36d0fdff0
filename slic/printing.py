"""How the command line answers: lines to stderr, a result to stdout."""

import io
import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slic.listing import shown
from slic.progress import messages

UNLIMITED = 10_000


def console() -> Console:
    """Of stdout; where that is no terminal, lines are as long as they are, to be copied whole."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr's
    free = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(highlight=False, width=free)


def plain(value: object) -> Text:
    """A value as it is, but for control characters: `[bold]` and `:fire:` mean nothing in names."""
    return Text(shown(value))


def say(line: str) -> None:
    """Print a line for the user to stderr."""
    messages().print(plain(line))


def show(values: dict[str, Any], *, as_json: bool, rows: dict[str, Any]) -> None:
    """Print a result: one JSON object, or a table of the rows."""
    if as_json:
        print(json.dumps(values))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    # A path is broken, where it must be, and never cut short.
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, plain(value))
    console().print(table)
