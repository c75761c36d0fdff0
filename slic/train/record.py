"""What a run writes down: metrics.jsonl, TensorBoard events, and clusters.h5."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from slic.cache.embeddings import TEXT
from slic.cache.shards import sync
from slic.runs import Run

WIDEST_KEY = 5


class Recorder:
    """Appends to metrics.jsonl and TensorBoard.

    Args:
        run: the run.
        lines: lines of metrics.jsonl that belong to the checkpoint continued from; later ones,
            of work that is done again, are dropped.
    """

    def __init__(self, run: Run, *, lines: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run.metrics
        self.lines = _keep_lines(self.path, lines)
        self._events = SummaryWriter(str(run.path / "tensorboard"))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line, durably, and its numbers as TensorBoard scalars."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines += 1
        for name, value in _flat(values).items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush TensorBoard's events."""
        self._events.close()


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{key}": number for key, number in _flat(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = float(value)
    return numbers


def _keep_lines(path: Path, count: int) -> int:
    """Cut a file to its first whole lines; how many there are, which is fewer if some got lost."""
    if not path.exists():
        return 0
    whole = path.read_text(encoding="utf-8").split("\n")[:-1][:count]
    with _replacing(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    return len(whole)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`; synced and renamed to it at the end, whole or not at all."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def record_clusters(path: Path, epoch: int, clusters: Mapping[str, int]) -> None:
    """Add one clustering to clusters.h5: `video` (N,) ids, and `epoch00000` (N,) int64 each.

    The file is written anew and renamed, so that a reader or a crash never meets half of it.
    """
    ids = list(clusters)
    known: dict[str, np.ndarray] = {}
    if path.exists():
        with h5py.File(path, "r") as file:
            if list(file["video"].asstr()[:]) == ids:
                known = {key: file[key][:] for key in file if key != "video"}
    known[f"epoch{epoch:0{WIDEST_KEY}d}"] = np.fromiter(clusters.values(), dtype=np.int64)
    with _replacing(path) as aside, h5py.File(aside, "w") as file:
        file.create_dataset("video", data=ids, dtype=TEXT)
        for key in sorted(known):
            file.create_dataset(key, data=known[key])
