"""Output of the command line: messages to stderr, results to stdout."""

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

UNLIMITED = 10_000  # columns


def console() -> Console:
    """Return a console of stdout, which breaks lines only on a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(highlight=False, width=width)


def plain(value: object) -> Text:
    """Return a value as literal text: rich would interpret `[bold]` and `:fire:` in names."""
    return Text(escape(value))


def say(line: str) -> None:
    """Print a message to stderr; on a terminal it is broken between words, never inside a path."""
    console, text = stderr_console(), escape(line)
    if sys.stderr.isatty() and len(text) > console.width:
        wrapper = textwrap.TextWrapper(
            console.width, break_long_words=False, break_on_hyphens=False
        )
        text = wrapper.fill(text)
    console.print(Text(text))


def new_table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table; long cells are broken into lines, never cut."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = None if title is None else plain(title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def show(values: dict[str, Any], *, as_json: bool, rows: dict[str, Any]) -> None:
    """Print a result to stdout.

    Args:
        values: the result as JSON.
        as_json: print `values` instead of `rows`.
        rows: the result for people, by name.
    """
    if as_json:
        print(json.dumps(values))
        return
    table = new_table("", "")
    table.show_header = False
    for name, value in rows.items():
        table.add_row(name, plain(value))
    console().print(table)
