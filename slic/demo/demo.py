"""`slic demo`: the whole pipeline on generated videos, compared with simple baselines."""

import contextlib
import dataclasses
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from slic.cache import ClipStore, Entry
from slic.clips.reading import ReaderPool
from slic.config import make_settings
from slic.demo.drawn import draw_dataset
from slic.demo.figures import ACTIONS
from slic.embed.cached import Parts, evaluation_protocol
from slic.embed.embedding import embed
from slic.encoders.encoder import new_encoder
from slic.errors import InputError
from slic.eval.classify import classify
from slic.eval.retrieve import recall_of, retrieve
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames
from slic.report.build import report
from slic.runs import RUNS, open_run
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import progress
from slic.train.run import train

FOLDER = "slic-demo"
PRESET = "demo"
STORE = "ucf101.zarr"
GROUPS, CLIPS, FRAMES, SIZE = 16, 4, 24, (96, 72)
# A sixth of the values of moving pixels saturate. The default, 6 for videos this small, would
# leave too few levels for the others.
BOUND_PX = 2.25
KS = (1, 5, 10)
PLAIN, CLUSTERED = "without-clusters", "slic"


@contextlib.contextmanager
def inside(folder: str) -> Iterator[None]:
    """Work inside a folder, which is made if it is missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; choose another --folder") from None
    with contextlib.chdir(folder):
        yield


def demo(
    folder: str = FOLDER,
    *,
    seed: int = 0,
    epochs: int | None = None,
    groups: int = GROUPS,
    workers: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Generate action videos, prepare them, pretrain with and without clusters, and evaluate.

    A second call continues an interrupted one, or returns the existing results.

    Args:
        folder: folder for data, runs and the report.
        seed: random seed of the videos and of the training.
        epochs: epochs of each training; None takes the preset's number.
        groups: groups per action; the clips of a group share scene and person.
        workers: processes that prepare videos; None takes one per core.
        device: device to train on.
        say: called with each progress message.

    Returns:
        `recall` ({method: {k: fraction}} on the test groups), `top1` of the linear probe,
        `videos` (their number), `seed`, `seconds`, and the paths `folder`, `run` and `report`.

    Raises:
        InputError: `folder` cannot be made.
        DatasetError: `folder` contains a data set made with other arguments.
    """
    begin = time.monotonic()
    with inside(folder):
        videos = drawn_store(seed, groups=groups, workers=workers, say=say)
        recall = _compare(seed, epochs, device, say)
        run = open_run(RUNS / CLUSTERED)
        probe = classify(run, say=say)
        page = report(run, device=device, say=say)["path"]
    return {
        "folder": folder,
        "run": str(Path(folder) / run.path),
        "report": str(Path(folder) / page),
        "videos": videos,
        "recall": recall,
        "top1": probe["top1"],
        "seed": seed,
        "seconds": round(time.monotonic() - begin, 1),
    }


def drawn_store(
    seed: int, *, groups: int = GROUPS, workers: int | None, say: Callable[[str], None]
) -> int:
    """Generate the demo's videos in the current folder and prepare them into `STORE`.

    Returns:
        Number of videos.
    """
    say("draw: people performing ten actions, as video files in UCF101's layout")
    with progress(len(ACTIONS) * groups * CLIPS, "draw") as advance:
        videos = draw_dataset(
            Path("ucf101"),
            groups=groups,
            clips=CLIPS,
            frames=FRAMES,
            size=SIZE,
            seed=seed,
            on_video=lambda: advance(1, 1),
        )
    say("prep: frames, then TV-L1 flow")
    prep_frames("ucf101", workers=workers)
    prep_flow("ucf101", bound=BOUND_PX, workers=workers)
    return videos


def _compare(
    seed: int, epochs: int | None, device: str, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Measure the recall of each method on the test groups, cheapest method first."""
    recall = {
        "mean frame, no network": mean_frame_recall(STORE),
        "random weights": random_recall(STORE, seed, device),
    }
    say("train: without clusters and with clusters, side by side")
    options = {"seed": seed, "epochs": epochs}
    clusters = {PLAIN: "none", CLUSTERED: "finch"}
    jobs = [(name, device, {**options, "cluster": clusters[name]}) for name in clusters]
    results = dict(run_jobs(train_and_retrieve, jobs, workers=len(jobs)))
    return recall | {name: results[name] for name in clusters}


class PrefixedLines(io.TextIOBase):
    """A stream that puts a name before each line, for trainings that run at the same time."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name, self.stream, self._line = name, stream, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self.stream.write(f"{self.name}: {line}\n")
        self.stream.flush()
        return len(text)


def train_and_retrieve(job: tuple[str, str, dict[str, Any]]) -> tuple[str, dict[str, float]]:
    """Train on half of the cores, in the current folder, and measure recall.

    A job is the name of a run, a device, and settings.

    Two small trainings side by side are faster than one after the other, because small steps do
    not scale well over cores.

    Returns:
        Name of the run, and recall of the test groups at each k.
    """
    name, device, options = job
    torch.set_num_threads(max(1, available_cores() // 2))
    with contextlib.redirect_stderr(PrefixedLines(name, sys.stderr)):
        say = partial(print, file=sys.stderr)
        train(STORE, preset=PRESET, options=options, run=name, device=device, say=say)
        result = retrieve(open_run(RUNS / name), ks=KS, device=device, say=say)
    return name, result["recall"]


def mean_frame_recall(path: str) -> dict[str, float]:
    """Measure what the scene alone reveals: recall of each video's mean frame, 32x32 pixels."""
    import cv2

    store = ClipStore(path)
    entries = store.entries()
    rows = []
    for entry in entries:
        frames = store.read(entry.id, 0, entry.frames or 1)
        mean = frames.mean(axis=0, dtype=np.float32)
        rows.append(cv2.resize(mean, (32, 32), interpolation=cv2.INTER_AREA).ravel())
    pixels = np.stack(rows)
    return _recall(pixels - pixels.mean(axis=0), entries)


def random_recall(path: str, seed: int, device: str) -> dict[str, float]:
    """Measure the recall of the encoder before any training."""
    settings = dataclasses.replace(make_settings(PRESET), seed=seed)
    store, where = ClipStore(path), torch.device(device)
    encoder = new_encoder(settings.encoder, seed=seed).to(where)
    entries = store.entries()
    with progress(len(entries), "embed", unit="clips") as advance:
        protocol = evaluation_protocol(settings, None)
        readers = ReaderPool(store, workers=1)
        found = embed(encoder, readers, entries, protocol=protocol, device=where, advance=advance)
    return _recall(found[0 if settings.retrieval_feature == "backbone" else 1], entries)


def _recall(rows: np.ndarray, entries: list[Entry]) -> dict[str, float]:
    parts = np.array([entry.split1 for entry in entries])
    labels = np.array([entry.label for entry in entries])
    test, training = parts == "test", parts == "train"
    return recall_of(Parts(rows[test], labels[test], rows[training], labels[training]), KS)[0]
