"""Training on a CUDA device; elsewhere these are skipped, and the summary says so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.device_augment import augment_cut, cut
from slic.clips.reading import ReaderPool
from slic.clips.samples import read_clips
from slic.config import Precision, make_settings
from slic.encoders.encoder import new_encoder
from slic.engine.forward import ComputeOptions, make_forward
from slic.engine.loader import SampleLoader
from slic.train.methods.slic import batch_loss
from slic.train.negatives import batch_labels
from slic.train.run import train
from slic.train.sampling import VideoTriplet, plan_epoch
from slic.train.slic_settings import SlicSettings
from tests.conftest import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CPU = torch.device("cpu")
OPTIONS = {"frames": 8, "stride": 1, "size": 32, "batch_size": 12, "flow_probability": 0.5}
SETTINGS = make_settings("cpu-small", options=OPTIONS)


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda")


@pytest.fixture
def no_waiting() -> Iterator[Any]:
    """Once called, whatever makes the host wait for the GPU is an error, to the test's end."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def planned(store: ClipStore, settings: SlicSettings) -> list[list[VideoTriplet]]:
    lengths = {entry.id: entry.frames or 0 for entry in store.entries()}
    clusters = {video: i % 5 for i, video in enumerate(lengths)}
    return plan_epoch(lengths, clusters, settings=settings, epoch=0)


@pytest.mark.parametrize("tf32", [False, True])
def test_augmentation_is_that_of_the_cpu(
    store: ClipStore, cuda: torch.device, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    views = [
        view
        for batch in planned(store, SETTINGS)
        for sample in batch
        for view in read_clips(store, sample, settings=SETTINGS)
    ]
    crops = cut([clip for clip, _ in views], [how for _, how in views])
    found = [augment_cut(crops, size=32, components="uv", device=d).cpu() for d in (CPU, cuda)]
    apart = (found[0].float() - found[1].float()).abs()
    assert apart.mean() < 0.1
    assert (apart > 2).float().mean() < 0.005


@pytest.mark.parametrize("objective", ["triplet", "infonce"])
def test_a_step_from_crops_to_weights_never_waits(
    store: ClipStore, cuda: torch.device, objective: str, no_waiting: Any
) -> None:
    settings = make_settings("cpu-small", options={**OPTIONS, "objective": objective})
    readers = ReaderPool(store, workers=0, device=torch.device("cuda"))
    loader = SampleLoader(readers, settings, clips=3, augment_on_device=True)
    plan = planned(store, settings)
    encoder = new_encoder("small", seed=0).to(cuda).to(memory_format=torch.channels_last_3d)
    forward = make_forward(encoder.train(), ComputeOptions(cuda), "auto")
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.01, fused=True)
    clusters = {video: i % 5 for i, video in enumerate(store.ids)}
    for number, (batch, parts) in enumerate(zip(plan, loader.batches(plan), strict=True)):
        if number == 1:  # the first finds its algorithms
            no_waiting()
        anchor, positive, second = forward(loader.on_device(parts, cuda).flatten(0, 1)).chunk(3)
        loss, _ = batch_loss(
            (anchor, positive, second),
            batch_labels(batch, clusters, {}),
            settings=settings,
            generator=torch.Generator().manual_seed(0),
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


def losses(compute: ComputeOptions, precision: Precision, *, steps: int = 10) -> list[float]:
    encoder = new_encoder("small", seed=0).to(compute.device)
    encoder = encoder.to(memory_format=torch.channels_last_3d).train()
    forward = make_forward(encoder, compute, precision)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.05, momentum=0.5, fused=True)
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        clips = torch.randint(0, 256, (16, 8, 32, 32, 3), dtype=torch.uint8, generator=generator)
        target = torch.randn(16, 128, generator=generator).to(compute.device)
        loss = (forward(clips) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    return found


def test_every_way_to_compute_gives_like_losses(cuda: torch.device) -> None:
    exact = losses(ComputeOptions(CPU), "fp32")
    assert losses(ComputeOptions(cuda), "fp32") == pytest.approx(exact, rel=1e-3)
    assert losses(ComputeOptions(cuda, recompute=True), "fp32") == pytest.approx(exact, rel=1e-3)
    for compute in (
        ComputeOptions(cuda),
        ComputeOptions(cuda, compile=True),
        ComputeOptions(cuda, recompute=True),
    ):
        assert losses(compute, "bf16") == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("way", ["compile", "recompute"])
@pytest.mark.parametrize("augment_on", ["gpu", "cpu"])
def test_a_run_trains_to_its_end(work: Path, way: str, augment_on: Any) -> None:
    result = train(
        "ucf101.zarr",
        preset="cpu-small",
        options={**TINY, "seed": 6},
        device="cuda",
        workers=2,
        augment_on=augment_on,
        **{way: True},
        say=str,
    )
    assert (result["epochs"], np.isfinite(result["loss"])) == (2, True)


def test_a_batch_is_fitted_and_known_again(work: Path) -> None:
    options = {**TINY, "seed": 7, "batch_size": "auto"}
    how: dict[str, Any] = {"options": options, "device": "cuda", "workers": 0, "say": str}
    first = train("ucf101.zarr", preset="cpu-small", **how)
    assert train("ucf101.zarr", preset="cpu-small", **how)["run"] == first["run"]
