"""How an encoder's forward is computed in a step: layout, arithmetic, compiled, recomputed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from slic.config import Precision
from slic.encoders.encoder import Encoder, normalise
from slic.encoders.precision import autocast
from slic.engine.distributed import ALONE, Ranks
from slic.errors import InputError, WorkError

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ComputeOptions:
    """With what a run is computed: it decides how fast, and not what, but for rounding.

    Attributes:
        device: where.
        workers: reading processes.
        augment_on_device: readers only cut the crops, and the device does the rest.
        compile: translate the forward and backward into kernels of its own.
        recompute: keep few activations, and compute the others twice.
        profile: measure where the time goes.

    Raises:
        InputError: compile and recompute together.
    """

    device: torch.device
    workers: int = 0
    augment_on_device: bool = False
    compile: bool = False
    recompute: bool = False
    profile: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.recompute:
            raise InputError("--compile and --recompute exclude each other: leave one out")


def make_forward(
    encoder: Encoder, compute: ComputeOptions, precision: Precision, *, ranks: Ranks = ALONE
) -> Forward:
    """The function from clips `(N, T, size, size, 3)` uint8 to projections `(N, 128)` float32.

    Args:
        encoder: on the device of `compute`; its weights are used, not copied.
        compute: device, compile and recompute.
        precision: of the arithmetic.
        ranks: the processes over which gradients are averaged. On GPUs the encoder's batch
            normalisation becomes one of all their clips, which then takes them all in each call.
    """
    embed = partial(_projection, encoder, recompute=compute.recompute)

    def forward(clips: Tensor) -> Tensor:
        with autocast(compute.device, precision):
            values = normalise(clips, device=compute.device, statistics=encoder.statistics)
            rows = embed(values)
            return rows.to(torch.promote_types(rows.dtype, torch.float32))

    if not ranks.alone and compute.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    made = _compiled(forward) if compute.compile else forward
    return made if ranks.alone else _averaged(encoder, made, compute.device)


class _Applied(nn.Module):
    """A forward as a module that has the encoder's parameters."""

    def __init__(self, encoder: Encoder, forward: Forward) -> None:
        super().__init__()
        self.encoder, self.apply_to = encoder, forward

    def forward(self, clips: Tensor) -> Tensor:
        return self.apply_to(clips)


def _averaged(encoder: Encoder, forward: Forward, device: torch.device) -> Forward:
    """The forward, whose gradients become the mean over all processes as they are computed."""
    with warnings.catch_warnings():
        # The name of the option until PyTorch 2.15, which knows it still.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(
            _Applied(encoder, forward),
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # averaged where they are used
        )


def _projection(encoder: Encoder, clips: Tensor, *, recompute: bool) -> Tensor:
    if not recompute:
        return encoder(clips)[1]
    values = clips
    for block in encoder.blocks():
        values = checkpoint(
            block,
            values,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=partial(_once_and_again, block),
        )
    return encoder.embed(values)[1]


def _once_and_again(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_untouched(block)


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Within, batch normalisation updates copies of its running statistics.

    They have been updated once for this batch; without any, it would keep fewer tensors than
    the first time, which is not allowed.
    """
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, known in zip(norms, buffers, strict=True):
            for name, value in known.items():
                setattr(norm, name, value.clone())
        yield
    finally:
        for norm, known in zip(norms, buffers, strict=True):
            for name, value in known.items():
                setattr(norm, name, value)


def _compiled(forward: Forward) -> Forward:
    """A forward that compiles itself when first called, once for each of the few batch sizes.

    Raises:
        WorkError: when called, there is no compiler, or it fails.
    """
    compiled = torch.compile(forward, dynamic=False)

    def call(clips: Tensor) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return compiled(clips)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise WorkError(f"--compile fails here ({reason}): leave it out") from error

    return call
