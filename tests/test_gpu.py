"""What needs a CUDA device; elsewhere these are skipped, and the summary says so."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.embed.embedding import Protocol, embed
from slic.encoders.encoder import new_encoder
from slic.prep.flow import prep_flow
from slic.prep.tvl1 import tvl1_flow

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
        backbone, _ = embed(
            encoder, ReaderPool(store, workers=0), store.entries(), protocol=protocol, device=device
        )
        rows[name] = backbone / np.linalg.norm(backbone, axis=1, keepdims=True)
    # bfloat16 keeps 8 bits of mantissa.
    assert (rows["cpu"] * rows["cuda"]).sum(axis=1).min() > 0.999


def texture(height: int, width: int, count: int, *, seed: int) -> np.ndarray:
    """A texture that drifts and jumps back every 12 frames, uint8 `(count, height, width)`."""
    noise = np.random.default_rng(seed).standard_normal((height + 40, width + 40))
    ground = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    steps = [t % 12 for t in range(count)]
    shifts = [np.float64([[1, 0, 1.7 * t - 30], [0, 1, -0.6 * t - 10]]) for t in steps]
    frames = [cv2.warpAffine(ground, shift, (width, height)) for shift in shifts]
    return np.rint(frames).astype(np.uint8)


@pytest.mark.parametrize("engine", ["cuda", "torch"])
@pytest.mark.parametrize("size", [(240, 320), (128, 171), (17, 300), (9, 13), (1, 40)])
def test_flow_is_that_of_the_cpu_engine(engine: Literal["cuda", "torch"], size: tuple) -> None:
    frames = texture(*size, 6, seed=1)
    wanted = tvl1_flow(frames, engine="cpu")
    found = tvl1_flow(frames, engine=engine, device="cuda")
    assert np.linalg.norm(found - wanted, axis=-1).mean() <= 0.02


@pytest.mark.parametrize("size", [(90, 121), (6, 1023), (4, 2000)])
def test_flow_of_many_pairs_does_not_depend_on_the_batch(size: tuple[int, int]) -> None:
    """A race between the threads of a program would differ from run to run.

    Rows shorter, as long and longer than the block of pixels that a program does at a time.
    """
    frames = texture(*size, 200, seed=2)
    whole = tvl1_flow(frames, engine="cuda")
    np.testing.assert_array_equal(tvl1_flow(frames, engine="cuda"), whole)
    part = tvl1_flow(frames[150:161], engine="cuda")
    assert np.abs(part).mean() > 0.1
    np.testing.assert_array_equal(part, whole[150:160])


@pytest.mark.parametrize("median_filtering", [1, 3, 5])
def test_parameters_mean_the_same_on_a_gpu(median_filtering: int) -> None:
    frames = texture(60, 81, 3, seed=3)
    parameters = {"median_filtering": median_filtering, "lambda_": 0.07, "warps": 3}
    wanted = tvl1_flow(frames, engine="cpu", **parameters)
    found = tvl1_flow(frames, engine="cuda", **parameters)
    assert np.linalg.norm(found - wanted, axis=-1).mean() <= 0.02


def test_prep_flow_on_a_gpu_gives_the_same_store(drawn: Path, tmp_path: Path) -> None:
    stores = {}
    for engine in ("cuda", "cpu"):
        path = tmp_path / f"{engine}.zarr"
        result = prep_flow(str(drawn), store=str(path), engine=engine, codec="zstd", bound=3.0)
        assert (result.written, result.failed) == (24, 0)
        stores[engine] = ClipStore(path)
    for entry in stores["cpu"].entries():
        read = [stores[e].read(entry.id, 0, 19, view="flow").astype(int) for e in stores]
        # In pixels: drawn video has plain parts, where flow is ill-defined and rounding counts.
        assert np.abs(read[0] - read[1]).mean() * 3.0 / 127 < 0.05
