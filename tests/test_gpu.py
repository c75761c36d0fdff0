"""What needs a CUDA device; elsewhere these are skipped, and the summary says so."""

from pathlib import Path

import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.embed import Protocol, embed
from slic.encoders import new_encoder
from slic.train.run import train
from tests.conftest import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def test_embeddings_agree_with_the_cpu(drawn_store: Path) -> None:
    store = ClipStore(drawn_store)
    protocol = Protocol(clips=2, frames=4, stride=1, size=32)
    rows = {}
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        encoder = new_encoder("small", seed=0).to(device)
        backbone, _ = embed(encoder, store, store.entries(), protocol=protocol, device=device)
        rows[name] = backbone / np.linalg.norm(backbone, axis=1, keepdims=True)
    # bfloat16 keeps 8 bits of mantissa.
    assert (rows["cpu"] * rows["cuda"]).sum(axis=1).min() > 0.999


def test_a_run_trains_to_its_end(work: Path) -> None:
    result = train(
        "ucf101.zarr",
        preset="cpu-small",
        options={**TINY, "seed": 5},
        device="cuda",
        workers=1,
        say=str,
    )
    assert (result["epochs"], np.isfinite(result["loss"])) == (2, True)
