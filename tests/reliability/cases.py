"""The commands that are killed: where each starts, what must always hold, and what it produces."""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import SLIC, SLIC_SAVING_OFTEN, Ended, run
from states import (
    Arrays,
    arrays_of,
    classify_state,
    embeddings_state,
    entered,
    run_faults,
    run_state,
    steps_done,
    store_faults,
    store_state,
)

from slic.demo.drawn import draw_dataset

SETTINGS = {
    **dict.fromkeys(("stride", "cluster_every", "warmup_epochs"), 1),
    "frames": 4,
    "size": 16,
    "batch_size": 3,
    "epochs": 2,
    "retrieval_clips": 2,
}
STORE, RUN = "s.zarr", Path("runs") / "r"
ON_CPU = ("--device", "cpu", "--workers")
FINETUNE = ("--epochs", "3", "--clips", "1", "--crops", "1", "--batch-size", "4")


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        words: of the command.
        begin: sets up the folder that it runs in.
        faults: what is wrong in the folder; nothing may be, whenever it was killed.
        progress: finished work by name, which may not change any more; a number may grow.
        state: the result to compare.
        entry: how Python starts the command.
    """

    words: tuple[str, ...]
    begin: Callable[[Path], None]
    faults: Callable[[Path], list[str]]
    progress: Callable[[Path], dict[str, Any]]
    state: Callable[[Path], Any]
    entry: Sequence[str] = SLIC


@dataclass(frozen=True)
class Uninterrupted:
    """How a command ended that nobody killed, and its result."""

    ended: Ended
    state: Any


class Material:
    """Videos, a store and a run, from which every case starts.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos, self.config = root / "videos", root / "tiny.toml"
        draw_dataset(self.videos, actions=2, groups=3, clips=2, frames=10, size=(32, 24))
        self.config.write_text("".join(f"{k} = {v}\n" for k, v in SETTINGS.items()))
        self._uninterrupted: dict[str, Uninterrupted] = {}
        self._numbers = iter(range(10**6))

    @cached_property
    def frames_store(self) -> Path:
        """A store of frames alone."""
        from slic.prep.frames import prep_frames

        path = self.root / "frames.zarr"
        assert prep_frames(str(self.videos), store=str(path), workers=1).failed == 0
        return path

    @cached_property
    def store(self) -> Path:
        """A store of frames and flow."""
        from slic.prep.flow import prep_flow

        path = self.root / "made" / STORE
        shutil.copytree(self.frames_store, path)
        assert prep_flow(str(path), workers=1, engine="cpu").failed == 0
        return path

    @cached_property
    def trained(self) -> Path:
        """A finished run of the store."""
        from slic.train.run import train

        with contextlib.chdir(self.store.parent):
            how = {"config": str(self.config), "device": "cpu", "workers": 0, "say": str}
            train(STORE, preset="cpu-small", run="r", **how)  # type: ignore[arg-type]
        return self.store.parent / RUN

    @cached_property
    def arrays(self) -> Arrays:
        """All frames and flow."""
        return arrays_of(self.store)

    def folder(self) -> Path:
        """Make an empty folder; all have names of the same length."""
        path = self.root / f"work-{next(self._numbers):05d}"
        path.mkdir()
        return path

    def prep_frames(self, workers: str) -> tuple[str, ...]:
        dataset = str(self.videos)
        return ("prep", "frames", dataset, "--store", STORE, "--workers", workers, "--json")

    def prep_flow(self, workers: str) -> tuple[str, ...]:
        return ("prep", "flow", STORE, "--engine", "cpu", "--workers", workers, "--json")

    def prep_both(self, workers: str) -> tuple[str, ...]:
        words = ("prep", "flow", str(self.videos), "--store", STORE, "--engine", "cpu")
        return (*words, "--workers", workers, "--json")

    def train(self, workers: str) -> tuple[str, ...]:
        how = ("--preset", "cpu-small", "--config", str(self.config), "--run", "r")
        return ("train", STORE, *how, *ON_CPU, workers, "--json")

    def with_nothing(self, folder: Path) -> None:
        """Set up nothing."""

    def with_frames(self, folder: Path) -> None:
        """Set up a store of frames alone."""
        shutil.copytree(self.frames_store, folder / STORE)

    def with_store(self, folder: Path) -> None:
        """Set up the store, for reading."""
        (folder / STORE).symlink_to(os.path.relpath(self.store, folder))

    def with_run(self, folder: Path) -> None:
        """Set up the store and a finished run of it."""
        self.with_store(folder)
        shutil.copytree(self.trained, folder / RUN)

    def cases(self) -> dict[str, Case]:
        """Return all commands, by name."""
        classify = ("eval", "classify", "--run", "r", "--json", *ON_CPU, "0", "--mode")
        retrieve = ("eval", "retrieve", "--run", "r", "--json", *ON_CPU, "0")
        return {
            "prep frames": self._prep(self.prep_frames("1"), self.with_nothing),
            "prep flow": self._prep(self.prep_flow("2"), self.with_frames),
            "prep frames and flow": self._prep(self.prep_both("3"), self.with_nothing),
            "train": self._training("0"),
            "train with a reader": self._training("1"),
            "eval retrieve": self._evaluation(retrieve, embeddings_state),
            "eval classify linear": self._evaluation((*classify, "linear"), classify_state),
            "eval classify linear-augmented": self._evaluation(
                (*classify, "linear-augmented", *FINETUNE), classify_state
            ),
            "eval classify finetune": self._evaluation(
                (*classify, "finetune", *FINETUNE), classify_state
            ),
        }

    def uninterrupted(self, name: str) -> Uninterrupted:
        """Return what a case produces when nobody kills it; it is run once."""
        if name not in self._uninterrupted:
            case, folder = self.cases()[name], self.folder()
            case.begin(folder)
            ended = run(case.words, folder, entry=case.entry)
            assert ended.code == 0, ended.err
            assert not case.faults(folder)
            self._uninterrupted[name] = Uninterrupted(ended, case.state(folder))
            shutil.rmtree(folder)
        return self._uninterrupted[name]

    def _prep(self, words: tuple[str, ...], begin: Callable[[Path], None]) -> Case:
        return Case(
            words,
            begin,
            faults=lambda folder: store_faults(folder / STORE, self.arrays),
            progress=lambda folder: entered(folder / STORE),
            state=lambda folder: store_state(folder / STORE),
        )

    def _training(self, workers: str) -> Case:
        return Case(
            self.train(workers),
            self.with_store,
            faults=lambda folder: run_faults(folder / RUN),
            progress=lambda folder: {"steps": steps_done(folder / RUN)},
            state=lambda folder: run_state(folder / RUN),
            entry=SLIC_SAVING_OFTEN,
        )

    def _evaluation(self, words: tuple[str, ...], state: Callable[[Path], Any]) -> Case:
        return Case(
            words,
            self.with_run,
            faults=lambda folder: run_faults(folder / RUN),
            progress=lambda folder: _results(folder / RUN),
            state=lambda folder: {
                "results": state(folder / RUN),
                "run": run_state(folder / RUN) | {"aside": []},
            },
            entry=SLIC_SAVING_OFTEN,
        )


def _results(path: Path) -> dict[str, Any]:
    """Return the inodes of caches, and of results that take long."""
    found = [*path.glob("classify/[!.]*.json"), *path.glob("embeddings/[!.]*.h5")]
    return {f.name: f.stat().st_ino for f in found if not f.name.startswith("linear-s-")}
