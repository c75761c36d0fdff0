"""Rates of this machine, from a few seconds of each kind of work on a few videos.

Work of cores is timed by their own time, all threads together: what else runs here meanwhile
leaves the rates as they are, of cores that are free.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from slic.cache import ClipStore, Codec, Entry
from slic.cache.clipstore import FLOW_QUALITY, fingerprint
from slic.clips.reading import ReaderPool
from slic.encoders.encoder import Encoder, new_encoder
from slic.encoders.precision import tune
from slic.engine.estimate import step_seconds
from slic.engine.forward import ComputeOptions, make_forward
from slic.engine.loader import SampleLoader
from slic.errors import WorkError
from slic.neighbours.exact import first_neighbours
from slic.prep.flow_video import FlowJob, store_flow_here, to_gray
from slic.prep.tvl1 import Tvl1Parameters, tvl1_flow
from slic.runtime.disk import process_start_errors
from slic.train.sampling import plan_epoch
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.model import PROJECTION, TRAIN_PASSES, VIEWS, Net
from slic.upkeep.cost.rates import Rate
from slic.upkeep.cost.sampled import SHORTEST_S, Look, children_s

FLOW_S, READING_S = 2.0, 1.0  # after which fewer have to do
STEP_FLOPS = 5e11  # of the step that is timed on a CPU: some seconds
FEWEST_FRAMES = 8
MOST_SAMPLES_GPU = 16
ROWS = 6000
STARTED = f"import {__name__}"
CPU = torch.device("cpu")


@cache
def net_of(settings: SlicSettings) -> Net:
    """What an encoder takes: counted without computing anything."""
    encoder = new_encoder(settings.encoder, seed=0).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone, _ = encoder(torch.zeros((1, 3, *_shape(settings)), device="meta"))
    parameters = sum(weights.numel() for weights in encoder.parameters())
    return Net(float(counter.get_total_flops()), parameters, backbone.shape[1])


def preparing(looks: Sequence[Look], *, decoding: float, of: str) -> dict[str, Rate]:
    """Rates of decoding and storing, from how videos were taken.

    Args:
        looks: of these videos.
        decoding: seconds of a core for a frame.
        of: what they are.
    """
    pixels = sum(look.pixels * look.all_frames for look in looks)
    encoding = sum(look.encoding * look.all_frames for look in looks)
    storing = statistics.median(look.storing for look in looks)
    return {
        "decode": Rate(1 / decoding, "measured", of),
        "encode": Rate(pixels / max(encoding, SHORTEST_S), "measured", of),
        "video": Rate(max(storing, SHORTEST_S / 100), "measured", of),
    }


def flow_on_cpu(store: ClipStore, *, of: str) -> dict[str, Rate]:
    """Rate of TV-L1 as a process of `prep flow` computes and stores it; it stays in the store."""
    codec = Codec("jpeg", quality=FLOW_QUALITY)
    tvl1_flow(np.zeros((2, 32, 32), np.uint8), engine="cpu")  # compiles, or loads what is
    begin, pixels = time.process_time(), 0
    for entry in store.entries():
        job = FlowJob(store.path, entry, codec, "cpu", Tvl1Parameters(), None, fingerprint({}))
        done = store_flow_here(job)
        if done.fingerprint is None:
            raise WorkError(f"flow cannot be measured here: {done.reason}")
        store.index.set_flow(entry, done.fingerprint)
        pixels += _pairs(entry) * (entry.height or 0) * (entry.width or 0)
        if pixels and time.process_time() - begin > FLOW_S:
            break
    seconds = time.process_time() - begin
    return {"flow_cpu": Rate(pixels / seconds, "measured", of)}


def _pairs(entry: Entry) -> int:
    return max(0, (entry.frames or 0) - 1)


def flow_on_gpu(store: ClipStore, *, engine: str, device: str, of: str) -> dict[str, Rate]:
    """Rate of TV-L1 on a GPU, of one video's pairs at a time."""
    entry = max(store.entries(), key=_pairs)
    gray = to_gray(store.read(entry.id, 0, entry.frames or 0))

    def solve() -> None:
        tvl1_flow(gray, engine=engine, device=device)  # type: ignore[arg-type]

    solve()
    pixels = _pairs(entry) * gray[0].size
    begin = time.perf_counter()
    solve()
    rate = pixels / (time.perf_counter() - begin)
    return {"flow_gpu": Rate(rate, "measured", f"{of}, {len(gray)} frames at a time")}


def reading(store: ClipStore, settings: SlicSettings, *, of: str) -> dict[str, Rate]:
    """Rates of readers: cutting clips, and augmenting them. All videos that are read have flow."""
    entries = [entry for entry in store.entries() if entry.flow is not None]
    lengths = {entry.id: entry.frames or 0 for entry in entries}
    sizes = {entry.id: (entry.height or 0) * (entry.width or 0) for entry in entries}
    alone = {video: code for code, video in enumerate(lengths)}
    readers, rates = ReaderPool(store, workers=0), {}
    for name, cut in (("read", True), ("augment", False)):
        loader = SampleLoader(readers, settings, clips=VIEWS, augment_on_device=cut)
        pixels, seconds, epoch = 0.0, 0.0, 0
        while seconds < READING_S:
            plan = plan_epoch(lengths, alone, settings=settings, epoch=epoch)
            if not epoch:
                list(loader.batches(plan))  # opens files
            seconds += _core_seconds(lambda: list(loader.batches(plan)))  # noqa: B023
            read = sum(sizes[sample.anchor] for batch in plan for sample in batch)
            pixels += VIEWS * settings.frames * read
            epoch += 1
        rates[name] = Rate(pixels / seconds, "measured", of)
    return rates


def computing_on_cpu(settings: SlicSettings) -> dict[str, Rate]:
    """Rate of a step of training, forward and back, of the settings' encoder."""
    small = settings
    while _step_flops(small) > STEP_FLOPS and small.frames > FEWEST_FRAMES:
        small = replace(small, frames=max(FEWEST_FRAMES, small.frames // 2))
    samples = max(1, min(settings.batch_size, int(STEP_FLOPS / _step_flops(small))))
    forward = make_forward(_encoder(small, CPU), ComputeOptions(device=CPU), small.precision)
    clips = torch.zeros((VIEWS * samples, *_shape(small), 3), dtype=torch.uint8)

    def step() -> None:
        forward(clips).square().mean().backward()

    step()
    rate = samples * _step_flops(small) / _core_seconds(step)
    return {"compute_cpu": Rate(rate, "measured", _step_told(small, samples))}


def computing_on_gpu(settings: SlicSettings, device: torch.device) -> dict[str, Rate]:
    """Rate of a step of training, forward and back, of the settings' encoder."""
    tune(device, settings.precision)
    samples = min(settings.batch_size, MOST_SAMPLES_GPU)
    encoder = _encoder(settings, device)
    seconds = step_seconds(
        encoder, VIEWS * samples, settings=settings, compute=ComputeOptions(device=device)
    )
    of = f"{_step_told(settings, samples)}, on {torch.cuda.get_device_name(device)}"
    return {"compute_gpu": Rate(samples * _step_flops(settings) / seconds, "measured", of)}


def _encoder(settings: SlicSettings, device: torch.device) -> Encoder:
    encoder = new_encoder(settings.encoder, seed=0).to(device)
    return encoder.to(memory_format=torch.channels_last_3d).train()


def _shape(settings: SlicSettings) -> tuple[int, int, int]:
    return settings.frames, settings.size, settings.size


def _step_told(settings: SlicSettings, samples: int) -> str:
    return f"{settings.encoder}, {samples} samples of {'x'.join(map(str, _shape(settings)))}"


def _step_flops(settings: SlicSettings) -> float:
    return VIEWS * TRAIN_PASSES * net_of(settings).flops


def neighbours() -> dict[str, Rate]:
    """Rate of exact first neighbours of drawn rows."""
    rows = np.random.default_rng(0).standard_normal((ROWS, PROJECTION), np.float32)
    first_neighbours(rows[:100])
    seconds = _core_seconds(lambda: first_neighbours(rows))
    flops = 2.0 * ROWS * ROWS * PROJECTION
    return {"neighbours": Rate(flops / seconds, "measured", f"{ROWS} drawn rows of {PROJECTION}")}


def starting() -> dict[str, Rate]:
    """What it takes to start a process that has PyTorch and slic in it."""
    before = children_s()
    with process_start_errors():
        subprocess.run([sys.executable, "-c", STARTED], check=True)
    return {"start": Rate(max(children_s() - before, SHORTEST_S), "measured", "one started")}


def _core_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
