"""Two at once: they share, wait, or refuse with one line; what comes of them is as of one."""

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
    """Commands that run at once.

    Attributes:
        begin: lays out their folder.
        commands: which.
        after: run then, one by one, until all is done.
        state: what it came to.
        whole: what that shall be.
        refusals: how many of them may be refused.
    """

    begin: Callable[[Path], Any]
    commands: tuple[Words, ...]
    after: tuple[Words, ...]
    state: Callable[[Path], Any]
    whole: Callable[[], Any]
    refusals: int = 0


def pairs(material: Material) -> dict[str, Together]:
    """Everything that is run at once, by name."""

    def stored(folder: Path) -> Any:
        return store_state(folder / STORE)

    def of_both() -> Any:
        return material.uninterrupted("prep frames and flow").state

    def trained(folder: Path) -> Any:
        return run_state(folder / RUN)

    def of_training() -> Any:
        return material.uninterrupted("train").state

    frames, flow = material.prep_frames("2"), material.prep_flow("2")
    both = ("prep", "flow", str(material.videos), "--store", STORE, "--engine", "cpu", "--json")
    train, other = material.train("0"), ("eval", "retrieve", "--run", "q", "--json", *ON_CPU, "0")

    def with_two_runs(folder: Path) -> None:
        material.with_run(folder)
        (folder / RUN).rename(folder / RUN.with_name("q"))

    def retrieved(folder: Path) -> Any:
        return embeddings_state(folder / RUN)

    def of_retrieval() -> Any:
        return material.uninterrupted("eval retrieve").state["results"]

    def tuned(folder: Path) -> Any:
        return classify_state(folder / RUN)

    def of_tuning() -> Any:
        return material.uninterrupted("eval classify finetune").state["results"]

    return {
        "prep frames twice": Together(
            lambda folder: None,
            (frames, frames),
            (),
            stored,
            lambda: material.uninterrupted("prep frames").state,
        ),
        "prep flow twice": Together(lambda folder: None, (both, both), (), stored, of_both),
        "prep frames --overwrite beside prep flow": Together(
            material.with_frames, ((*frames, "--overwrite"), flow), (flow,), stored, of_both
        ),
        "prep flow --overwrite twice": Together(
            material.with_frames,
            ((*flow, "--overwrite"), (*flow, "--overwrite")),
            (flow,),
            stored,
            of_both,
        ),
        "eval retrieve twice": Together(
            material.with_run, (RETRIEVE, RETRIEVE), (), retrieved, of_retrieval
        ),
        "eval classify finetune twice": Together(
            material.with_run, (TUNE, TUNE), (), tuned, of_tuning, refusals=1
        ),
        "train twice under one name": Together(
            material.with_store, (train, train), (), trained, of_training, refusals=1
        ),
        "eval retrieve during train": Together(
            with_two_runs, (train, other), (), trained, of_training
        ),
        "eval retrieve of a run in training": Together(
            material.with_store, (train, RETRIEVE), (RETRIEVE,), _without_retrieval, of_training, 1
        ),
        "prep during train": Together(
            lambda folder: shutil.copytree(material.root / "made" / STORE, folder / STORE),
            (train, frames, flow),
            (),
            trained,
            of_training,
        ),
    }


def _without_retrieval(folder: Path) -> Any:
    state = run_state(folder / RUN)
    state["embeddings"] = {k: v for k, v in state["embeddings"].items() if "-train" in k}
    return state


def at_once(material: Material, name: str, *, delays_s: Sequence[float]) -> tuple[list[str], int]:
    """Run commands at once, each after a delay.

    Returns:
        What was not as it should be, a line each; and how many commands were refused.
    """
    pair, folder = pairs(material)[name], material.folder()
    pair.begin(folder)
    running = []
    for words, delay in zip(pair.commands, delays_s, strict=True):
        time.sleep(delay)
        running.append(Running(words, folder, entry=_entry(words)))
    ended = [one.ended() for one in running]
    refused = [one for one in ended if one.code]
    lost = [f"exit code {one.code}: {one.err[-500:]}" for one in refused if not _one_line(one)]
    if len(refused) > pair.refusals:
        lost.append(f"{len(refused)} refused: {[one.err for one in refused]}")
    lost += ["processes were left behind" for one in ended if one.left]
    lost += store_faults(folder / STORE, material.pictures)
    if (folder / RUN).is_dir():
        lost += run_faults(folder / RUN)
    for words in pair.after:
        last = run(words, folder)
        lost += [f"then, exit code {last.code}: {last.err[-500:]}"] if last.code else []
    if pair.state(folder) != pair.whole():
        lost.append("what it came to differs from what one of them comes to")
    if not lost:
        shutil.rmtree(folder)
    return [f"{name}, delays {list(delays_s)}: {line}" for line in lost], len(refused)


def _entry(words: Words) -> Sequence[str]:
    return SLIC_SAVING_OFTEN if words[0] in ("train", "eval") else SLIC


def _one_line(ended: Ended) -> bool:
    """Whether a command was refused: wrong input, said in one line."""
    said = [line for line in ended.err.splitlines() if line.startswith("slic: ")]
    return ended.code == 2 and len(said) == 1 and "Traceback" not in ended.err


SHORT = ("prep flow twice", "train twice under one name", "eval retrieve twice")


@pytest.mark.parametrize("name", SHORT)
def test_two_at_once(material: Material, name: str) -> None:
    lost, refused = at_once(material, name, delays_s=(0.0, 0.0))
    assert not lost
    assert refused == pairs(material)[name].refusals


def soak_together(seed: int, minutes: float) -> dict[str, Any]:
    """Every pair in turn, one a little after the other, until the time is over.

    Returns:
        {pair: {rounds, refused}}, and `lost`: a line each.
    """
    rng, until = Random(seed), time.monotonic() + 60 * minutes
    found: dict[str, Counter[str]] = {}
    everything: list[str] = []
    with TemporaryDirectory(prefix="slic-soak-", ignore_cleanup_errors=True) as root:
        material = Material(Path(root))
        while time.monotonic() < until:
            for name, pair in pairs(material).items():
                delays = [0.0, *(rng.choice((0.0, rng.random() * 5)) for _ in pair.commands[1:])]
                lost, refused = at_once(material, name, delays_s=delays)
                found.setdefault(name, Counter()).update(rounds=1, refused=refused)
                everything += lost
                if time.monotonic() > until:
                    break
    return {**{name: dict(counts) for name, counts in found.items()}, "lost": everything}
