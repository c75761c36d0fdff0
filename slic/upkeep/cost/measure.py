"""Measure the rates of this machine that matter most: decoding, flow and training steps."""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from slic.datasets.videos import read_dataset
from slic.demo.drawn import draw_dataset
from slic.demo.figures import ACTIONS
from slic.demo.scenes import draw_clip
from slic.encoders.encoder import new_encoder
from slic.encoders.precision import tune
from slic.engine.estimate import step_seconds
from slic.engine.forward import ComputeOptions
from slic.prep.flow_video import to_gray
from slic.prep.tvl1 import resolve_engine, tvl1_flow
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import sampled
from slic.upkeep.cost.model import TRAIN_PASSES, VIEWS, network_of
from slic.upkeep.cost.rates import Rate

STEP_FLOPS = {"cpu": 5e11, "cuda": 5e13}  # of the measured step: seconds, not minutes
FLOW_FRAMES, FLOW_SIZE = 32, (171, 128)


def measure(names: Iterable[str], settings: SlicSettings) -> dict[str, Rate]:
    """Measure rates of this machine, in some seconds.

    Args:
        names: some of decode, flow_cpu, flow_gpu, compute_cpu, compute_gpu.
        settings: settings of training.
    """
    ways: dict[str, Callable[[], Rate]] = {
        "decode": lambda: _decoding(settings),
        "flow_cpu": lambda: _flow("cpu"),
        "flow_gpu": lambda: _flow("auto"),
        "compute_cpu": lambda: _computing(settings, torch.device("cpu")),
        "compute_gpu": lambda: _computing(settings, torch.device("cuda")),
    }
    return {name: ways[name]() for name in names}


def _decoding(settings: SlicSettings) -> Rate:
    with tempfile.TemporaryDirectory(prefix="slic-plan-") as folder:
        draw_dataset(Path(folder, "drawn"), actions=2, groups=2, clips=1, size=(320, 240))
        rate = sampled(read_dataset(Path(folder, "drawn")), settings=settings)[1]
    return Rate(rate.value, "measured", "generated video (MPEG-4, 320x240)")


def _flow(engine: str) -> Rate:
    """TV-L1 of a generated clip; of the CPU by processor time, all threads together."""
    engine, device = resolve_engine(engine)
    frames = to_gray(draw_clip(ACTIONS[0], group=1, clip=1, frames=FLOW_FRAMES, size=FLOW_SIZE))
    clock = time.process_time if engine == "cpu" else time.perf_counter

    def solve(frames: np.ndarray) -> float:
        begin = clock()
        tvl1_flow(frames, engine=engine, device=device)  # type: ignore[arg-type]
        return clock() - begin

    solve(frames[:2] if engine == "cpu" else frames)  # compiles
    return Rate(frames[1:].size / solve(frames), "measured", f"engine {engine}, generated video")


def _computing(settings: SlicSettings, device: torch.device) -> Rate:
    """A training step, forward and backward, as large as the device does in a few seconds."""
    flops = TRAIN_PASSES * network_of(settings).flops
    most = max(2, int(STEP_FLOPS[device.type] / flops))
    clips = min(VIEWS * settings.batch_size, most)
    tune(device, settings.precision)
    encoder = new_encoder(settings.encoder, seed=0).to(device)
    encoder = encoder.to(memory_format=torch.channels_last_3d)
    compute = ComputeOptions(device=device)
    seconds = step_seconds(encoder, clips, settings=settings, compute=compute)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    source = (
        f"{settings.encoder}, {clips} clips of {settings.frames}x{settings.size}x{settings.size}"
    )
    return Rate(clips * flops / seconds / threads, "measured", source)
