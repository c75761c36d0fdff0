"""Commands that run at the same time: they share the work, wait, or refuse with one line."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cases import FINETUNE, ON_CPU, RUN, STORE, Material
from harness import SLIC, SLIC_SAVING_OFTEN, Ended, Running, run
from states import (
    classify_state,
    embeddings_state,
    run_faults,
    run_state,
    store_faults,
    store_state,
)

Words = tuple[str, ...]
RETRIEVE = ("eval", "retrieve", "--run", "r", "--json", *ON_CPU, "0")
TUNE = ("eval", "classify", "--run", "r", "--json", *ON_CPU, "0", "--mode", "finetune", *FINETUNE)


@dataclass(frozen=True)
class Together:
    """Commands that run at the same time.

    Attributes:
        begin: sets up their folder.
        commands: which.
        state: the result to compare.
        expected: the case whose uninterrupted result it must be.
        after: commands that then complete the result, one by one.
        refusals: how many of the commands may be refused.
    """

    begin: Callable[[Path], Any]
    commands: tuple[Words, ...]
    state: Callable[[Path], Any]
    expected: str
    after: tuple[Words, ...] = ()
    refusals: int = 0


def combinations(material: Material) -> dict[str, Together]:
    """Return all that is run at the same time, by name."""

    def stored(folder: Path) -> Any:
        return store_state(folder / STORE)

    def trained(folder: Path) -> Any:
        return run_state(folder / RUN)

    def copy(folder: Path) -> Any:
        return shutil.copytree(material.store, folder / STORE)

    nothing, both = material.with_nothing, "prep frames and flow"
    frames, flow, train = material.prep_frames("2"), material.prep_flow("2"), material.train("0")
    again = (*flow, "--overwrite")
    overwritten = ((*frames, "--overwrite"), flow)
    return {
        "prep flow twice": Together(nothing, (material.prep_both("2"),) * 2, stored, both),
        "prep frames --overwrite, and prep flow": Together(
            material.with_frames, overwritten, stored, both, after=(flow,)
        ),
        "prep flow --overwrite twice": Together(
            material.with_frames, (again, again), stored, both, after=(flow,)
        ),
        "eval retrieve twice": Together(
            material.with_run,
            (RETRIEVE, RETRIEVE),
            lambda folder: {"results": embeddings_state(folder / RUN)},
            "eval retrieve",
        ),
        "eval classify finetune twice": Together(
            material.with_run,
            (TUNE, TUNE),
            lambda folder: {"results": classify_state(folder / RUN)},
            "eval classify finetune",
            refusals=1,
        ),
        "train twice under one name": Together(
            material.with_store, (train, train), trained, "train", refusals=1
        ),
        "eval retrieve of a run in training": Together(
            material.with_store,
            (train, RETRIEVE),
            _without_retrieval,
            "train",
            after=(RETRIEVE,),
            refusals=1,
        ),
        "prep during train": Together(copy, (train, frames, flow), trained, "train"),
    }


def _without_retrieval(folder: Path) -> Any:
    state = run_state(folder / RUN)
    state["embeddings"] = {k: v for k, v in state["embeddings"].items() if "-train" in k}
    return state


def at_once(material: Material, name: str, *, delays_s: Sequence[float]) -> tuple[list[str], int]:
    """Run commands at the same time, each after a delay.

    Returns:
        What is not as it should be, a line each; and how many commands were refused.
    """
    these, folder = combinations(material)[name], material.folder()
    these.begin(folder)
    running = []
    for words, delay in zip(these.commands, delays_s, strict=True):
        time.sleep(delay)
        entry = SLIC_SAVING_OFTEN if words[0] in ("train", "eval") else SLIC
        running.append(Running(words, folder, entry=entry))
    ended = [one.ended() for one in running]
    refused = [one for one in ended if one.code]
    lost = [f"exit code {one.code}: {one.err[-500:]}" for one in refused if not _one_line(one)]
    if len(refused) > these.refusals:
        lost.append(f"{len(refused)} refused: {[one.err for one in refused]}")
    lost += ["processes were left behind" for one in ended if one.left]
    lost += store_faults(folder / STORE, material.arrays)
    if (folder / RUN).is_dir():
        lost += run_faults(folder / RUN)
    for words in these.after:
        last = run(words, folder)
        lost += [f"then, exit code {last.code}: {last.err[-500:]}"] if last.code else []
    got, expected = these.state(folder), material.uninterrupted(these.expected).state
    if any(got[key] != expected[key] for key in got):
        lost.append("the result differs from that of one command")
    if not lost:
        shutil.rmtree(folder)
    return [f"{name}, delays {list(delays_s)}: {line}" for line in lost], len(refused)


def _one_line(ended: Ended) -> bool:
    """Return whether a command was refused for its input, in one line."""
    said = [line for line in ended.err.splitlines() if line.startswith("slic: ")]
    return ended.code == 2 and len(said) == 1 and "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "refusals"),
    [("prep flow twice", 0), ("train twice under one name", 1), ("eval retrieve twice", 0)],
)
def test_two_at_once(material: Material, name: str, refusals: int) -> None:
    assert at_once(material, name, delays_s=(0.0, 0.0)) == ([], refusals)


def soak_together(seed: int, minutes: float) -> dict[str, Any]:
    """Run every combination in turn, with random delays, until the time is over.

    Returns:
        {combination: {rounds, refused}}, and `lost`: a line each.
    """
    rng, until = Random(seed), time.monotonic() + 60 * minutes
    found: dict[str, Counter[str]] = {}
    everything: list[str] = []
    with TemporaryDirectory(prefix="slic-soak-", ignore_cleanup_errors=True) as root:
        material = Material(Path(root))
        while time.monotonic() < until:
            for name, these in combinations(material).items():
                delays = [0.0, *(rng.choice((0.0, rng.random() * 5)) for _ in these.commands[1:])]
                lost, refused = at_once(material, name, delays_s=delays)
                found.setdefault(name, Counter()).update(rounds=1, refused=refused)
                everything += lost
                if time.monotonic() > until:
                    break
    return {**{name: dict(counts) for name, counts in found.items()}, "lost": everything}
