"""What each process of test_ranks.py does: `torchrun ... ranks_at_work.py STORE FOLDER`.

All is computed in float64, and batch normalisation stays in eval mode, so that what is the same
in one process and in several can be told from what is rounded otherwise.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import Settings, make_settings
from slic.embed.embedding import Protocol
from slic.encoders.checkpoints import load_checkpoint
from slic.encoders.encoder import Encoder, new_encoder
from slic.engine import synchronised as together
from slic.engine.distributed import Ranks, joined
from slic.engine.forward import ComputeOptions
from slic.errors import DamagedChunk, InputError, SlicError, WorkError
from slic.runs import create_run, open_run
from slic.train.methods import base
from slic.train.methods import slic as method
from slic.train.training import training

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
    run = ranks.decided(lambda: open_run(path))
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


def outcome_of(call: Callable[[], Any]) -> str:
    """How a call ends: its value, or its error."""
    try:
        return str(call())
    except (SlicError, SystemExit) as error:
        return f"{type(error).__name__}: {error}"


def refuse() -> None:
    raise InputError("no")


def failing(at: int) -> Iterator[int]:
    for number in range(10):
        if number == at:
            raise DamagedChunk("bad bytes")
        yield number


def taken_in_step(ranks: Ranks) -> list[int]:
    """The items that a process takes if the last one fails at its third."""
    items = failing(2 if ranks.rank == ranks.size - 1 else 10)
    taken = []
    with pytest.raises(WorkError), together.in_step(items, ranks) as agreed:
        taken.extend(agreed)
    return taken


def embedded(store: Path, ranks: Ranks, *, damaged: bool) -> Any:
    """Embeddings of two videos, at the first process; `damaged` for the second process."""
    readers = ReaderPool(ClipStore(store), workers=0)
    entries = readers.store.entries()[:2]
    how: dict[str, Any] = {"protocol": Protocol(1, 2, 1, 12), "device": CPU, "ranks": ranks}

    def no_bytes(*args: Any, **options: Any) -> None:
        raise DamagedChunk("bad bytes")

    with pytest.MonkeyPatch.context() as patch:
        if damaged and ranks.rank == 1:
            patch.setattr(together, "embed", no_bytes)
        return together.embed_shares(new_encoder("small", seed=0), readers, entries, **how)


def taken_apart(store: Path, ranks: Ranks) -> dict[str, Any]:
    """What the parts do, as JSON holds it."""
    numbers = torch.arange(3.0) + ranks.rank
    ranks.average([numbers])
    whole = embedded(store, ranks, damaged=False)
    return {
        "any": ranks.any(ranks.rank == 1, False),
        "decided": ranks.decided(lambda: [ranks.rank, "said"]),
        "refused": outcome_of(lambda: ranks.decided(refuse)),
        "collected": ranks.collected(ranks.rank * 10),
        "average": numbers.tolist(),
        "step": taken_in_step(ranks),
        "rows": None if whole is None else [np.asarray(part).tolist() for part in whole],
        "damaged": outcome_of(lambda: embedded(store, ranks, damaged=True)),
    }


def main() -> None:
    """Train the cases, and go on with the interrupted run, once for each stop."""
    store, folder = map(Path, sys.argv[1:])
    with joined(patience=timedelta(seconds=60)) as ranks:
        made = folder / str(ranks.size)
        train_all(store, made, ranks)
        found = taken_apart(store, ranks)
        path = folder / "interrupted"
        found["steps"] = [interrupted(store, path, ranks, at=at) for at in STOPS[ranks.size]]
        (made / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
