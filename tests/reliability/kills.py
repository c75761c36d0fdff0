"""Kill a command again and again, at moments drawn by a seed, and see that nothing is lost."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cases import Case, Material
from harness import Kill, run

IN_PLACE = 0.7  # of the kills at events
TIMED = 0.3  # of the kills but the first of a folder, which is sure to come before the end


@dataclass
class Survived:
    """What one command's kills came to.

    Attributes:
        counts: attempts, kills (by SIGKILL, before it was done), compared outcomes.
        lost: everything that was not as it should be, one line each.
        marks: where it was killed.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def __add__(self, other: "Survived") -> "Survived":
        return Survived(
            self.counts + other.counts, self.lost + other.lost, self.marks + other.marks
        )


def draw_kill(rng: Random, *, seconds: float, events: str, timed: float) -> Kill:
    """A moment: a share is by the clock, the rest at events of files, where things can go wrong.

    Most of them are of files in place, of which there are fewer.
    """
    whom = rng.choice(("main", "main", "all"))
    if rng.random() < timed:
        return Kill(after_s=rng.random() * seconds, whom=whom)
    in_place = [number for number, kind in enumerate(events, start=1) if kind == "P"]
    anywhere = range(1, len(events) + 1)
    event = rng.choice(in_place if in_place and rng.random() < IN_PLACE else anywhere)
    return Kill(event=event, when=rng.choice(("before", "after")), whom=whom)


def kill_and_compare(material: Material, name: str, *, seed: str, kills: int) -> Survived:
    """Kill a command up to `kills` times in one folder, let it finish, compare with a whole one.

    The kill points draw nearer as less is left to do.
    """
    case, whole, rng = material.cases()[name], material.uninterrupted(name), Random(seed)
    folder, found = material.folder(), Survived()
    case.begin(folder)
    kept: dict[str, Any] = {}
    events = whole.ended.events
    for number in range(kills + 1):
        last = number == kills
        moment = {"seconds": whole.ended.seconds, "events": events, "timed": TIMED if number else 0}
        kill = None if last else draw_kill(rng, **moment)
        ended = run(case.words, folder, kill=kill, entry=case.entry)
        found.counts["attempts"] += 1
        found.marks.append(f"{kill} -> {ended.code}")
        if ended.left:
            found.lost.append("processes were left behind")
        kept = _checked(case, folder, kept, found)
        if not ended.killed:
            break
        found.counts["kills"] += 1
        events = events[: max(10, len(events) - len(ended.events) // 2)]
    if ended.code != 0:
        found.lost.append(f"exit code {ended.code}: {ended.err[-500:]}")
    else:
        found.lost += _differences(whole.state, case.state(folder))
        found.counts["compared"] += 1
    found.lost = [f"{name}, seed {seed}, {found.marks}: {line}" for line in found.lost]
    if not found.lost:
        shutil.rmtree(folder)
    return found


def _checked(case: Case, folder: Any, before: dict[str, Any], found: Survived) -> dict[str, Any]:
    """What is kept by now; the faults, and what was kept before and is not, are lost."""
    found.lost += case.faults(folder)
    now = case.kept(folder)
    for what, value in before.items():
        grown = what == "steps" and now.get(what, -1) >= value
        if now.get(what) != value and not grown:
            found.lost.append(f"{what} was there, and was done again or is gone")
    return now


def _differences(expected: Any, got: Any, where: str = "") -> list[str]:
    """Where two outcomes differ, by the keys that lead there."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        keys = list(dict.fromkeys([*expected, *got]))
        return [
            line
            for key in keys
            for line in _differences(expected.get(key), got.get(key), f"{where}/{key}")
        ]
    return [] if expected == got else [f"{where} differs from an uninterrupted run's"]
