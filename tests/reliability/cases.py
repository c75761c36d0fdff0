"""The commands that are killed: where each begins, what must hold after, what it must come to."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import SLIC, SLIC_SAVING_OFTEN, Ended, run
from states import (
    Pictures,
    classify_state,
    embeddings_state,
    entered,
    pictures_of,
    run_faults,
    run_state,
    steps_done,
    store_faults,
    store_state,
)

from slic.demo.drawn import draw_dataset

VIDEOS = 12
TINY = """
frames = 4
stride = 1
size = 16
batch_size = 3
epochs = 2
cluster_every = 1
warmup_epochs = 1
retrieval_clips = 2
"""
STORE, RUN = "s.zarr", Path("runs") / "r"
ON_CPU = ("--device", "cpu", "--workers")
FINETUNE = ("--epochs", "3", "--clips", "1", "--crops", "1", "--batch-size", "4")


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        words: of the command.
        begin: lays out the folder that it runs in.
        faults: what is wrong in the folder, whenever it was killed.
        kept: what must not change any more, by name; a number may grow.
        state: what to compare at the end.
        entry: how Python starts it.
    """

    words: tuple[str, ...]
    begin: Callable[[Path], None]
    faults: Callable[[Path], list[str]]
    kept: Callable[[Path], dict[str, Any]]
    state: Callable[[Path], Any]
    entry: Sequence[str] = SLIC


@dataclass(frozen=True)
class Whole:
    """What an uninterrupted command came to."""

    ended: Ended
    state: Any


class Material:
    """Videos, a store and a run of them, from which every case begins.

    Args:
        root: an empty folder to make it in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos, self.config = root / "videos", root / "tiny.toml"
        draw_dataset(self.videos, actions=2, groups=3, clips=2, frames=10, size=(32, 24))
        self.config.write_text(TINY)
        self.whole: dict[str, Whole] = {}
        self._numbers = iter(range(10**6))
        self.pictures: Pictures = {}
        self._made = root / "made"
        self._made.mkdir()
        for words in (self.prep_frames("2"), self.prep_flow("2"), self.train("0")):
            if words[:2] == ("prep", "flow"):
                shutil.copytree(self._made / STORE, root / "frames.zarr")
            ended = run(words, self._made)
            assert ended.code == 0, ended.err
        self.pictures = pictures_of(self._made / STORE)

    def folder(self) -> Path:
        """A new, empty folder; its name is as long as any other's."""
        path = self.root / f"work-{next(self._numbers):05d}"
        path.mkdir()
        return path

    def prep_frames(self, workers: str) -> tuple[str, ...]:
        """The command that makes the store."""
        dataset = str(self.videos)
        return ("prep", "frames", dataset, "--store", STORE, "--workers", workers, "--json")

    def prep_flow(self, workers: str) -> tuple[str, ...]:
        """The command that adds flow to it."""
        return ("prep", "flow", STORE, "--engine", "cpu", "--workers", workers, "--json")

    def train(self, workers: str, name: str = "r") -> tuple[str, ...]:
        """The command that trains on it."""
        how = ("--preset", "cpu-small", "--config", str(self.config), "--run", name)
        return ("train", STORE, *how, *ON_CPU, workers, "--json")

    def with_frames(self, folder: Path) -> None:
        """Lay out a store of frames alone."""
        shutil.copytree(self.root / "frames.zarr", folder / STORE)

    def with_store(self, folder: Path) -> None:
        """Lay out the whole store, for reading."""
        (folder / STORE).symlink_to(os.path.relpath(self._made / STORE, folder))

    def with_run(self, folder: Path) -> None:
        """Lay out the store and a finished run of it."""
        self.with_store(folder)
        shutil.copytree(self._made / RUN, folder / RUN)

    def cases(self) -> dict[str, Case]:
        """All commands, by name."""
        both = ("prep", "flow", str(self.videos), "--store", STORE, "--engine", "cpu")
        evaluate = ("eval", "classify", "--run", "r", "--json", *ON_CPU, "0", "--mode")
        probe = self._evaluation(classify_state)
        tuned = self._evaluation(classify_state)
        return {
            "prep frames": self._prep(self.prep_frames("2"), lambda folder: None),
            "prep flow": self._prep(self.prep_flow("2"), self.with_frames),
            "prep frames and flow": self._prep(
                (*both, "--workers", "3", "--json"), lambda folder: None
            ),
            "train": self._training("0"),
            "train with a reader": self._training("1"),
            "eval retrieve": self._evaluation(embeddings_state)(
                ("eval", "retrieve", "--run", "r", "--json", *ON_CPU, "0")
            ),
            "eval classify linear": probe((*evaluate, "linear")),
            "eval classify linear-augmented": tuned((*evaluate, "linear-augmented", *FINETUNE)),
            "eval classify finetune": tuned((*evaluate, "finetune", *FINETUNE)),
        }

    def uninterrupted(self, name: str) -> Whole:
        """What a case comes to when nobody kills it; made once."""
        if name not in self.whole:
            case, folder = self.cases()[name], self.folder()
            case.begin(folder)
            ended = run(case.words, folder, entry=case.entry)
            assert ended.code == 0, ended.err
            assert not case.faults(folder)
            self.whole[name] = Whole(ended, case.state(folder))
            shutil.rmtree(folder)
        return self.whole[name]

    def _prep(self, words: tuple[str, ...], begin: Callable[[Path], None]) -> Case:
        return Case(
            words,
            begin,
            faults=lambda folder: store_faults(folder / STORE, self.pictures),
            kept=lambda folder: entered(folder / STORE),
            state=lambda folder: store_state(folder / STORE),
        )

    def _training(self, workers: str) -> Case:
        return Case(
            self.train(workers),
            self.with_store,
            faults=lambda folder: run_faults(folder / RUN),
            kept=lambda folder: {"steps": steps_done(folder / RUN)},
            state=lambda folder: run_state(folder / RUN),
            entry=SLIC_SAVING_OFTEN,
        )

    def _evaluation(self, state: Callable[[Path], Any]) -> Callable[[tuple[str, ...]], Case]:
        def case(words: tuple[str, ...]) -> Case:
            return Case(
                words,
                self.with_run,
                faults=lambda folder: run_faults(folder / RUN),
                kept=lambda folder: _results(folder / RUN),
                state=lambda folder: {
                    "results": state(folder / RUN),
                    "run": run_state(folder / RUN) | {"aside": []},
                },
                entry=SLIC_SAVING_OFTEN,
            )

        return case


def _results(path: Path) -> dict[str, Any]:
    """Inodes of the caches in place, and of the results that take long."""
    found = [*path.glob("classify/[!.]*.json"), *path.glob("embeddings/[!.]*.h5")]
    return {f.name: f.stat().st_ino for f in found if not f.name.startswith("linear-s-")}
