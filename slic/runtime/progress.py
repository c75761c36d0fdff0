"""Progress on stderr: a bar on a terminal, a line every half minute in a pipe or a log file."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 30.0
NARROWEST_BAR = 4
TEXT_COLUMNS = 66  # the longest text beside a bar: `linear-augmented 240000/240000 100% ...`


@functools.cache
def stderr_console() -> Console:
    """Return the console of messages and bars; it prints messages above a bar."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def format_duration(seconds: float) -> str:
    """Format a duration: `42 s`, `3 min 10 s`, `5 h 02 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


@dataclass
class _Progress:
    """Videos and units done so far; without `total_units`, the share is that of the videos."""

    what: str
    unit: str
    total: int
    total_units: float | None
    videos: int = 0
    units: float = 0.0
    begin: float = field(default_factory=lambda: time.monotonic())

    def rate(self) -> str:
        seconds = max(time.monotonic() - self.begin, 1e-6)
        return f"{self.units / seconds:,.0f} {self.unit}/s"

    def share(self) -> float:
        if self.videos >= self.total:
            return 1.0
        if self.total_units:
            return min(self.units / self.total_units, 1.0)
        return self.videos / self.total


@contextlib.contextmanager
def progress(
    total: int, what: str, *, unit: str = "videos", units: float | None = None
) -> Iterator[Callable[[int, float], None]]:
    """Show progress on stderr while the block runs.

    Args:
        total: number of videos to process.
        what: short description of the work, such as `frames`.
        unit: name of what the rate counts, such as `pairs`.
        units: total number of these units. If given, the bar and the remaining time follow the
            units instead of the videos.

    Yields:
        A function `advance(videos, units)` to call with what has been finished since the last call.
    """
    done, console = _Progress(what, unit, total, units), stderr_console()
    drawn = sys.stderr.isatty() and not console.is_dumb_terminal
    with _bar(done, console) if drawn else contextlib.nullcontext(_lines(done, console)) as show:

        def advance(videos: int, count: float) -> None:
            done.videos += videos
            done.units += count
            show()

        yield advance


def _lines(done: _Progress, console: Console) -> Callable[[], None]:
    last_line = done.begin

    def show() -> None:
        nonlocal last_line
        now = time.monotonic()
        finished = 0 < done.total <= done.videos
        if not finished and now - last_line < LINE_EVERY_S:
            return
        last_line, share = now, done.share()
        tail = ""
        if share and not finished:
            tail = f", {format_duration((1 - share) / share * (now - done.begin))} left"
        console.print(f"{done.what}: {done.videos}/{done.total}, {done.rate()}{tail}")

    return show


@contextlib.contextmanager
def _bar(done: _Progress, console: Console) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(NARROWEST_BAR, min(20, console.width - TEXT_COLUMNS))),
        TextColumn("{task.fields[videos]}"),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(done.what, total=1.0, rate="", videos=f"0/{done.total}")

        def show() -> None:
            videos = f"{done.videos}/{done.total}"
            bar.update(task, completed=done.share(), videos=videos, rate=done.rate())

        yield show
