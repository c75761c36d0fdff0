"""Progress on stderr: what, how far, at which rate, how long still; plain lines when piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_EVERY_S = 30.0


def messages() -> Console:
    """The console for everything that is no result."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 10 s, 5 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def progress(
    total: int, what: str, *, unit: str = "videos"
) -> Iterator[Callable[[int, float], None]]:
    """Show progress over `total` videos; call the yielded `advance(videos, units)`.

    Args:
        total: videos to do.
        what: short description, such as `frames`.
        unit: what the rate counts, such as `pairs`.
    """
    begin = time.monotonic()
    if not sys.stderr.isatty():
        yield _plain(total, what, unit, begin)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages(), transient=False) as bar:
        task = bar.add_task(what, total=total, rate="")
        units = 0.0

        def advance(videos: int, count: float) -> None:
            nonlocal units
            units += count
            rate = units / max(time.monotonic() - begin, 1e-6)
            bar.update(task, advance=videos, rate=f"{rate:,.0f} {unit}/s")

        yield advance


def _plain(total: int, what: str, unit: str, begin: float) -> Callable[[int, float], None]:
    state = {"done": 0.0, "units": 0.0, "said": begin}
    console = messages()

    def advance(videos: int, count: float) -> None:
        state["done"] += videos
        state["units"] += count
        now = time.monotonic()
        last = state["done"] >= total
        if not last and now - state["said"] < PLAIN_EVERY_S:
            return
        state["said"] = now
        rate = state["units"] / max(now - begin, 1e-6)
        left = (total - state["done"]) * (now - begin) / max(state["done"], 1)
        tail = "" if last else f", {clock(left)} left"
        console.print(f"{what}: {state['done']:.0f}/{total}, {rate:,.0f} {unit}/s{tail}")

    return advance
