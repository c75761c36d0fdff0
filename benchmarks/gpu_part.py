"""One part of gpu_day.py, which starts this in a process of its own."""

import argparse
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from common import Row, say, write_json
from gpu_parts import PARTS, Day


def found_by(name: str, day: Day) -> Iterator[Row]:
    """Run a part, and yield its results so far, or the package that it lacks."""
    try:
        module = import_module(f"gpu_parts.{PARTS[name].module}")
        yield from getattr(module, name)(day)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "slic":
            raise
        yield {"skipped": f"the package {error.name} is not installed"}


def main() -> None:
    """Run one part, and write its results as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("found", type=Path)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--kept-flow", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    say(f"\n== {given.name}")
    found: Row = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        videos = tuple(given.videos)
        day = Day(given.rehearse, given.seconds, videos, given.kept_flow, Path(folder))
        for more in found_by(given.name, day):
            found |= more
            write_json(given.found, found)


if __name__ == "__main__":
    main()
