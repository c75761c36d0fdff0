"""What each process of test_distributed.py does: `torchrun ... ranks_at_work.py STORE FOLDER`.

All is computed in float64, and batch normalisation stays in eval mode, so that what is the same
in one process and in several can be told from what is rounded otherwise.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import Settings, make_settings
from slic.encoders.checkpoints import load_checkpoint
from slic.encoders.encoder import Encoder, new_encoder
from slic.engine.distributed import Ranks, joined
from slic.engine.forward import ComputeOptions
from slic.errors import DamagedChunk
from slic.runs import create_run, open_run
from slic.train.methods import base
from slic.train.methods import slic as method
from slic.train.training import training
from slic.train.training_set import tested_entries, training_entries

CPU = torch.device("cpu")
# 18 training videos: two epochs of 5 steps, of 3 and 4 samples. Of these, two processes divide the
# one evenly, and three the other.
BASE = make_settings(
    "cpu-small",
    options={"frames": 2, "size": 12, "epochs": 2, "batch_size": 4, "cluster_every": 1},
)
TRIPLET = replace(BASE, objective="triplet", optimiser="sgd", lr=0.1, warmup_epochs=0)
CASES = {
    "triplet": TRIPLET,
    "all-pairs": replace(TRIPLET, pairs="all"),
    "infonce": replace(BASE, warmup_epochs=0),
}
NEVER = 0
INTERRUPTED = "triplet"  # the case that is made once more, with stops
# In which step three processes stop it, and then two, who go on to the end.
STOPS = {3: [3], 2: [2, NEVER]}


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Within, encoders compute in float64 and never by the statistics of a batch."""
    with pytest.MonkeyPatch.context() as patch:
        frozen = torch.nn.Module.train
        patch.setattr(Encoder, "train", lambda self, mode=True: frozen(self, False))
        patch.setattr(base, "new_encoder", lambda name, seed: new_encoder(name, seed=seed).double())
        for module in ("slic.engine.forward", "slic.embed.embedding"):
            normalise = sys.modules[module].normalise
            patch.setattr(
                f"{module}.normalise", lambda *a, real=normalise, **o: real(*a, **o).double()
            )
        yield


def train(store: Path, path: Path, settings: Settings, ranks: Ranks) -> None:
    """Train a run of that folder, or go on."""
    if ranks.first and not path.exists():
        digest = ClipStore(store).digest(flow=True)
        create_run(path, settings, store=store, store_digest=digest, preset="cpu-small")
    run = ranks.on_first(lambda: open_run(path))
    with training(run, compute=ComputeOptions(CPU), ranks=ranks, say=str) as (_, loop):
        loop()


def train_all(store: Path, folder: Path, ranks: Ranks) -> None:
    """A run of each case."""
    with exact():
        for name, settings in CASES.items():
            train(store, folder / name, settings, ranks)


@contextlib.contextmanager
def stopped(ranks: Ranks, *, at: int) -> Iterator[None]:
    """Within, the last process alone is told to stop, in the midst of its step of that number."""
    real, steps = method.batch_loss, iter(range(1, 100))

    def noting(*args: Any, **options: Any) -> Any:
        if next(steps) == at and ranks.rank == ranks.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "batch_loss", noting)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield


def interrupted(store: Path, path: Path, ranks: Ranks, *, at: int) -> int:
    """Begin the interrupted run, or go on with it, up to a stop; the steps then done."""
    with exact(), stopped(ranks, at=at), contextlib.suppress(KeyboardInterrupt):
        train(store, path, CASES[INTERRUPTED], ranks)
    return load_checkpoint(path / "checkpoints" / "latest")["progress"]["total_steps"]


def test_recall(store: Path, folder: Path, ranks: Ranks) -> list[Any]:
    """The recall of test videos: of sound ones, and where the last process finds one damaged."""
    from slic.train import recluster

    # A run of its own: clustering replaces the cached embeddings of the run.
    path = folder / "recall"
    if ranks.first and not path.exists():
        digest = ClipStore(store).digest(flow=True)
        create_run(path, TRIPLET, store=store, store_digest=digest, preset="cpu-small")
    run = ranks.on_first(lambda: open_run(path))
    readers = ReaderPool(ClipStore(store), workers=0)
    train, test = training_entries(readers.store, TRIPLET), tested_entries(readers.store, TRIPLET)
    real = recluster.embed

    def damaged(encoder: Any, readers: Any, entries: Any, **options: Any) -> Any:
        if ranks.rank == ranks.size - 1 and entries[-1] == test[-1]:
            raise DamagedChunk("bad bytes")
        return real(encoder, readers, entries, **options)

    recalls = []
    with pytest.MonkeyPatch.context() as patch:
        for embed in (real, damaged):
            patch.setattr(recluster, "embed", embed)
            encoder = new_encoder("small", seed=0)
            how: Any = {"run": run, "settings": TRIPLET, "epoch": 0, "device": CPU}
            found = recluster.cluster_videos(encoder, readers, train, **how, test=test, ranks=ranks)
            recalls.append(found.record["test_recall"])
    return recalls


def taken_apart(store: Path, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """What the parts do, as JSON holds it."""
    numbers = torch.arange(3.0) + ranks.rank
    ranks.average([numbers])
    return {
        "any": ranks.any(ranks.rank == 1, False),
        "on_first": ranks.on_first(lambda: [ranks.rank, "said"]),
        "gathered": ranks.gather(ranks.rank * 10),
        "average": numbers.tolist(),
        "test_recall": test_recall(store, folder, ranks),
    }


def main() -> None:
    """Train the cases, and go on with the interrupted run, once for each stop."""
    store, folder = map(Path, sys.argv[1:])
    with joined(timeout=timedelta(seconds=60)) as ranks:
        made = folder / str(ranks.size)
        train_all(store, made, ranks)
        found = taken_apart(store, folder / "1", ranks)
        path = folder / "interrupted"
        found["steps"] = [interrupted(store, path, ranks, at=at) for at in STOPS[ranks.size]]
        (made / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
