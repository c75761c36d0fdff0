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
from slic.config import Settings, make_settings
from slic.embed import Protocol
from slic.encoders import Encoder, new_encoder
from slic.errors import DamagedChunk, InputError, SlicError, WorkError
from slic.ranks import Ranks, joined
from slic.reading import ReaderPool
from slic.runs import create_run, open_run
from slic.train import loop, together
from slic.train.compute import Means
from slic.train.loop import Training

CPU = torch.device("cpu")
STOPPED_AT = 5
# 18 training videos: 12 steps of 4 and 5 samples, or 9 of 6 and 12 with a further epoch.
BASE = make_settings(
    "cpu-small",
    options={"frames": 2, "size": 12, "epochs": 3, "batch_size": 5, "cluster_every": 2},
)
TRIPLET = replace(BASE, objective="triplet", optimiser="sgd", lr=0.1, warmup_epochs=0)
INFONCE = replace(BASE, warmup_epochs=0)
CASES = {
    "triplet": TRIPLET,
    "triplet-even": replace(TRIPLET, batch_size=6, epochs=4),
    "all-pairs": replace(TRIPLET, pairs="all"),
    "all-pairs-even": replace(TRIPLET, pairs="all", batch_size=6, epochs=4),
    "infonce": INFONCE,
    "infonce-even": replace(INFONCE, batch_size=6, epochs=4),
    "interrupted": TRIPLET,
}


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Within, encoders compute in float64 and never by the statistics of a batch."""
    with pytest.MonkeyPatch.context() as patch:
        frozen = torch.nn.Module.train
        patch.setattr(Encoder, "train", lambda self, mode=True: frozen(self, False))
        patch.setattr(loop, "new_encoder", lambda name, seed: new_encoder(name, seed=seed).double())
        for module in ("slic.train.compute", "slic.embed"):
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
    Training(run, means=Means(CPU), ranks=ranks, say=str)()


def train_all(store: Path, folder: Path, ranks: Ranks) -> None:
    """A run of each case."""
    with exact():
        for name, settings in CASES.items():
            if name != "interrupted" or ranks.alone:
                train(store, folder / name, settings, ranks)


@contextlib.contextmanager
def stopped_in_the_middle(ranks: Ranks) -> Iterator[None]:
    """Within, the last process alone is told to stop, in the midst of a step."""
    real, steps = loop.forward_loss, iter(range(1, 100))

    def noting(*args: Any, **options: Any) -> Any:
        if next(steps) == STOPPED_AT and ranks.rank == ranks.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "forward_loss", noting)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield


def interrupted(store: Path, folder: Path, ranks: Ranks) -> str:
    """Begin the interrupted case, or go on with it."""
    with exact(), stopped_in_the_middle(ranks) if ranks.size == 2 else contextlib.nullcontext():
        try:
            train(store, folder.parent / "interrupted", CASES["interrupted"], ranks)
        except KeyboardInterrupt:
            return "stopped"
    return "done"


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
        shares = together.embed_shares(new_encoder("small", seed=0), readers, entries, **how)
    return shares.rows() if ranks.first else None


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
    """Everything, in one go: to start processes takes longer."""
    store, folder = map(Path, sys.argv[1:])
    with joined(patience=timedelta(seconds=60)) as ranks:
        train_all(store, folder, ranks)
        found = {"parts": taken_apart(store, ranks), "end": interrupted(store, folder, ranks)}
        (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
