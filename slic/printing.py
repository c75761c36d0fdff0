"""How the command line answers: lines to stderr, a result to stdout."""

import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slic.progress import messages

UNLIMITED = 10_000


def console() -> Console:
    """Of stdout; where that is no terminal, lines are as long as they are, to be copied whole."""
    free = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(highlight=False, width=free)


def say(line: str) -> None:
    """Print a line for the user to stderr, as it is."""
    messages().print(escape(line))


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
        table.add_row(name, escape(str(value)))
    console().print(table)
