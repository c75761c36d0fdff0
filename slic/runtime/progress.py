"""Progress on stderr: what, how far, at which rate, how long still; plain lines when piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_EVERY_S = 30.0
NARROWEST_BAR, WIDEST_NUMBERS = 4, 66  # columns, of 240000/240000 linear-augmented and the like


_showing: list[Console] = []


def stderr_console() -> Console:
    """The console for all that is no result: while a bar is shown its own, to print above it."""
    return _showing[-1] if _showing else Console(stderr=True, highlight=False, soft_wrap=True)


def format_duration(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 10 s, 5 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def progress(
    total: int, what: str, *, unit: str = "videos", units: float | None = None
) -> Iterator[Callable[[int, float], None]]:
    """Show progress over `total` videos; call the yielded `advance(videos, units)`.

    Args:
        total: videos to do.
        what: short description, such as `frames`.
        unit: what the rate counts, such as `pairs`.
        units: how many of these there are in all, if known; the time left is then told by them.
    """
    begin = time.monotonic()
    console = stderr_console()
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield _plain(total, what, unit, units, begin)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(NARROWEST_BAR, min(20, console.width - WIDEST_NUMBERS))),
        TextColumn("{task.fields[videos]}"),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        done = Done(total, units)
        task = bar.add_task(what, total=1.0, rate="", videos=f"0/{total}")

        def advance(videos: int, count: float) -> None:
            done.add(videos, count)
            rate = done.units / max(time.monotonic() - begin, 1e-6)
            bar.update(
                task,
                completed=done.share,
                videos=f"{done.videos}/{total}",
                rate=f"{rate:,.0f} {unit}/s",
            )

        _showing.append(console)
        try:
            yield advance
        finally:
            _showing.remove(console)


class Done:
    """Videos and units done so far.

    Args:
        total: videos in all.
        total_units: units in all, if known.
    """

    def __init__(self, total: int, total_units: float | None) -> None:
        self.total, self.total_units = total, total_units
        self.videos, self.units = 0, 0.0

    def add(self, videos: int, units: float) -> None:
        """Count some more."""
        self.videos += videos
        self.units += units

    @property
    def share(self) -> float:
        """Share of the whole, 0 to 1: of the units if their number is known."""
        if self.videos >= self.total:
            return 1.0
        if self.total_units:
            return min(self.units / self.total_units, 1.0)
        return self.videos / self.total


def _plain(
    total: int, what: str, unit: str, units: float | None, begin: float
) -> Callable[[int, float], None]:
    done, said = Done(total, units), begin
    console = stderr_console()

    def advance(videos: int, count: float) -> None:
        nonlocal said
        done.add(videos, count)
        now = time.monotonic()
        last = videos > 0 and done.videos >= total
        if not last and now - said < PLAIN_EVERY_S:
            return
        said = now
        rate = done.units / max(now - begin, 1e-6)
        left = (1 - done.share) * (now - begin) / done.share if done.share else float("inf")
        tail = "" if last or left == float("inf") else f", {format_duration(left)} left"
        console.print(f"{what}: {done.videos}/{total}, {rate:,.0f} {unit}/s{tail}")

    return advance
