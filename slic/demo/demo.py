"""`slic demo`: the whole pipeline on video that it draws itself, with an honest comparison."""

import contextlib
import dataclasses
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import make_settings
from slic.demo.drawn import ACTIONS, draw_dataset
from slic.embed.cached import Parts, evaluation_protocol, split_parts
from slic.embed.embedding import CacheName, embed, write_cache
from slic.encoders.encoder import new_encoder, weights_digest
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
# A sixth of the moving values saturate; the usual bound, 6 here, would leave the others faint.
BOUND_PX = 2.25
KS = (1, 5, 10)
PLAIN, CLUSTERED = "without-clusters", "slic"


@contextlib.contextmanager
def inside(folder: str) -> Iterator[None]:
    """Work inside a folder, made if need be: runs and stores lie there as a user's would.

    Raises:
        InputError: it cannot be made.
    """
    before = Path.cwd()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; choose another --folder") from None
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


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
    """Draw action videos, prepare them, pretrain with and without clusters, evaluate, and report.

    Run again, it goes on where it was, or shows the results that are there.

    Args:
        folder: where everything goes.
        seed: of the drawing and of the training.
        epochs: of each training; the preset's if None.
        groups: of clips that share scene and figure, an action.
        workers: processes for preparing.
        device: where to train.
        say: takes lines meant for the user.

    Returns:
        `recall` ({method: {k: fraction}} on the test groups), `top1` of the linear probe,
        `videos`, `seconds`, `folder`, `run`, `report` (the page to look at).

    Raises:
        InputError and its kinds: a folder that holds something else.
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
    """Draw the demo's videos here, and prepare them into `STORE`; how many there are."""
    videos = _draw(seed, groups, say)
    say("prep: frames, then TV-L1 flow")
    prep_frames("ucf101", workers=workers)
    prep_flow("ucf101", bound=BOUND_PX, workers=workers)
    return videos


def _compare(
    seed: int, epochs: int | None, device: str, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Recall of the test groups by each method, cheapest first."""
    recall = {
        "mean frame, no network": mean_frame_recall(STORE),
        "random weights": random_recall(STORE, seed, device),
    }
    say("train: without clusters and with them, side by side")
    jobs = [
        TrainJob(PLAIN, "none", seed, epochs, device),
        TrainJob(CLUSTERED, "finch", seed, epochs, device),
    ]
    found = dict(run_jobs(train_and_retrieve, jobs, workers=len(jobs)))
    return recall | {job.name: found[job.name] for job in jobs}


@dataclass(frozen=True)
class TrainJob:
    """One training of the comparison; the fields are `train`'s settings."""

    name: str
    cluster: str
    seed: int
    epochs: int | None
    device: str


class Named(io.TextIOBase):
    """A stream that puts a name before each line, for two trainings that report at once."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name, self.stream, self._line = name, stream, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self.stream.write(f"{self.name}: {line}\n")
        self.stream.flush()
        return len(text)


def train_and_retrieve(job: TrainJob) -> tuple[str, dict[str, float]]:
    """Train on half of the cores, in the current folder: (name, recall of the test groups).

    Two small trainings side by side take less time than in turn, as small steps do not spread
    well over cores.
    """
    torch.set_num_threads(max(1, available_cores() // 2))
    options = {"cluster": job.cluster, "seed": job.seed, "epochs": job.epochs}
    with contextlib.redirect_stderr(Named(job.name, sys.stderr)):

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        train(STORE, preset=PRESET, options=options, run=job.name, device=job.device, say=say)
        found = retrieve(open_run(RUNS / job.name), ks=KS, device=job.device, say=say)
    return job.name, found["recall"]


def _draw(seed: int, groups: int, say: Callable[[str], None]) -> int:
    say("draw: people in ten actions, as video files in UCF101's own tree")
    done = 0
    with progress(len(ACTIONS) * groups * CLIPS, "draw") as advance:

        def drawn(count: int) -> None:
            nonlocal done
            advance(count - done, count - done)
            done = count

        return draw_dataset(
            Path("ucf101"),
            groups=groups,
            clips=CLIPS,
            frames=FRAMES,
            size=SIZE,
            seed=seed,
            on_video=drawn,
        )


def mean_frame_recall(path: str) -> dict[str, float]:
    """What the scene alone gives away: recall of each video's mean frame, 32 pixels small."""
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


def _recall(rows: np.ndarray, entries: list) -> dict[str, float]:
    words = np.array([entry.split1 for entry in entries])
    labels = np.array([entry.label for entry in entries])
    test, train_ = words == "test", words == "train"
    return recall_of(Parts(rows[test], labels[test], rows[train_], labels[train_]), KS)[0]


def random_recall(path: str, seed: int, device: str) -> dict[str, float]:
    """Recall of the encoder as it is before training."""
    settings = dataclasses.replace(make_settings(PRESET), seed=seed)
    store, where = ClipStore(path), torch.device(device)
    encoder = new_encoder(settings.encoder, seed=seed).to(where)
    protocol = evaluation_protocol(settings, None)
    name = CacheName(
        store.name, store.digest(), f"random.{weights_digest(encoder.state_dict())}", protocol
    )
    entries = store.entries()
    with progress(len(entries), "embed", unit="clips") as advance:
        readers = ReaderPool(store, workers=1)
        backbone, projection = embed(
            encoder, readers, entries, protocol=protocol, device=where, advance=advance
        )
    cache = write_cache(Path("runs"), name, entries, backbone=backbone, projection=projection)
    parts = split_parts(cache, split=1, feature=settings.retrieval_feature, where=Path(path))
    return recall_of(parts, KS)[0]
