"""`--batch-size auto`: the largest batch whose step fits a GPU's memory."""

from collections.abc import Callable

import torch

from slic.config import Settings
from slic.encoders.encoder import new_encoder
from slic.engine.estimate import step_seconds
from slic.engine.forward import ComputeOptions
from slic.errors import InputError, WorkError

PROBES = (4, 8)
SHARE = 0.85  # of the free memory: convolutions find room for faster ways as they go
FEWEST_STEPS = 10
LEAST = 2


def fitting_batch(settings: Settings, *, clips: int, compute: ComputeOptions, videos: int) -> int:
    """Samples a step that fit the GPU, and leave an epoch ten steps.

    Args:
        settings: of the run, but for its batch size.
        clips: of a sample.
        compute: the GPU, and whether to recompute.
        videos: to train on.

    Raises:
        InputError: the device is a CPU, whose memory is not what limits a batch.
        WorkError: not even two samples fit.
    """
    if compute.device.type != "cuda":
        raise InputError(
            f"--batch-size auto needs a GPU, and the device is {compute.device}: give a number"
        )
    encoder = new_encoder(settings.encoder, seed=0)
    encoder = encoder.to(compute.device).to(memory_format=torch.channels_last_3d)
    weights = sum(p.numel() * p.element_size() for p in encoder.parameters())

    def peak(samples: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(compute.device)
        step_seconds(encoder, clips * samples, settings=settings, compute=compute)
        # The optimiser's state, which the step of a probe does without, is twice the weights.
        return torch.cuda.max_memory_allocated(compute.device) + 2 * weights

    free = torch.cuda.mem_get_info(compute.device)[0]
    return largest_batch(peak, free=free, most=max(LEAST, videos // FEWEST_STEPS))


def largest_batch(peak: Callable[[int], int], *, free: int, most: int) -> int:
    """The largest batch that fits, estimated along a line from small ones, and tried.

    Args:
        peak: bytes that a step of so many samples takes; raises torch.OutOfMemoryError.
        free: bytes there are.
        most: no more samples than these.

    Returns:
        At least 2 samples, a multiple of 8 from 8 on.

    Raises:
        WorkError: not even two samples fit.
    """
    try:
        few, more = PROBES
        at_few, at_more = peak(few), peak(more)
        each = max(1.0, (at_more - at_few) / (more - few))
        count = int(few + (SHARE * free - at_few) / each)
    except torch.OutOfMemoryError:
        count = PROBES[0] - 1
    count = min(count, most)
    while count >= LEAST:
        count = count if count < 8 else count // 8 * 8
        try:
            peak(count)
            return count
        except torch.OutOfMemoryError:
            count = count * 3 // 4
    raise WorkError("a step of 2 samples does not fit the GPU's memory: try --recompute")
