"""Kill a command again and again, at random moments, and check that nothing is lost."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cases import Material
from harness import Kill, run

IN_PLACE = 0.7  # share of kills at changes of files that are read, of which there are few
TIMED = 0.3  # share of kills by the clock, from the second on: the first must find it running


@dataclass
class Survived:
    """Result of one command's kills.

    Attributes:
        counts: attempts, kills (by SIGKILL, before the end), compared results.
        lost: what is not as it should be, one line each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __add__(self, other: "Survived") -> "Survived":
        return Survived(self.counts + other.counts, self.lost + other.lost)


def draw_kill(rng: Random, *, seconds: float, events: str, timed: float) -> Kill:
    """Draw a moment: by the clock, or at a change of a file, where things can go wrong."""
    whom = rng.choice(("main", "main", "all"))
    if rng.random() < timed:
        return Kill(after_s=rng.random() * seconds, whom=whom)
    in_place = [number for number, kind in enumerate(events, start=1) if kind == "P"]
    anywhere = range(1, len(events) + 1)
    event = rng.choice(in_place if in_place and rng.random() < IN_PLACE else anywhere)
    return Kill(event=event, when=rng.choice(("before", "after")), whom=whom)


def kill_and_compare(material: Material, name: str, *, seed: str, kills: int) -> Survived:
    """Kill a command up to `kills` times in one folder, let it finish, and compare the result."""
    case, expected, rng = material.cases()[name], material.uninterrupted(name), Random(seed)
    folder, found = material.folder(), Survived()
    case.begin(folder)
    progress: dict[str, Any] = {}
    events, marks = expected.ended.events, []
    for number in range(kills + 1):
        moment = {"seconds": expected.ended.seconds, "timed": TIMED if number else 0}
        kill = None if number == kills else draw_kill(rng, events=events, **moment)
        ended = run(case.words, folder, kill=kill, entry=case.entry)
        found.counts["attempts"] += 1
        marks.append(f"{kill} -> {ended.code}")
        if ended.left:
            found.lost.append("processes were left behind")
        found.lost += case.faults(folder)
        before, progress = progress, case.progress(folder)
        found.lost += _undone(before, progress)
        if not ended.killed:
            break
        found.counts["kills"] += 1
        events = events[: max(10, len(events) - len(ended.events) // 2)]  # less is left to do
    if ended.code != 0:
        found.lost.append(f"exit code {ended.code}: {ended.err[-500:]}")
    else:
        found.lost += _differences(expected.state, case.state(folder))
        found.counts["compared"] += 1
    found.lost = [f"{name}, seed {seed}, {marks}: {line}" for line in found.lost]
    if not found.lost:
        shutil.rmtree(folder)
    return found


def _undone(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what was finished before, and is done again or gone."""
    changed = [name for name, value in before.items() if now.get(name) != value]
    undone = [name for name in changed if name != "steps" or now.get(name, -1) < before[name]]
    return [f"{name} was there, and was done again or is gone" for name in undone]


def _differences(expected: Any, got: Any, where: str = "") -> list[str]:
    """Return where two results differ, by the keys that lead there."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        keys = list(dict.fromkeys([*expected, *got]))
        each = [_differences(expected.get(k), got.get(k), f"{where}/{k}") for k in keys]
        return [line for lines in each for line in lines]
    return [] if expected == got else [f"{where} differs from an uninterrupted run's"]
