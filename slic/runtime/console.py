"""How the command line answers: lines to stderr, a result to stdout."""

import io
import json
import os
import sys
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slic.runtime.progress import stderr_console
from slic.runtime.text import escape

UNLIMITED = 10_000


def console() -> Console:
    """Of stdout; where that is no terminal, lines are as long as they are, to be copied whole."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr's
    free = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(highlight=False, width=free)


def plain(value: object) -> Text:
    """A value as it is, but for control characters: `[bold]` and `:fire:` mean nothing in names."""
    return Text(escape(value))


def say(line: str) -> None:
    """Print a line for the user to stderr; a terminal's is broken between words, never a path."""
    console, text = stderr_console(), escape(line)
    if sys.stderr.isatty() and len(text) > console.width:
        wrapper = textwrap.TextWrapper(
            console.width, break_long_words=False, break_on_hyphens=False
        )
        text = wrapper.fill(text)
    console.print(Text(text))


def new_table(*headings: str, title: str | None = None) -> Table:
    """An empty table with these headings; what a terminal has no room for is broken, never cut."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = None if title is None else plain(title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


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


def format_bytes(count: int) -> str:
    """Bytes for people: 512 B, 8.9 MB, 1.2 GB."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError
