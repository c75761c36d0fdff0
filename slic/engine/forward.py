"""Compute an encoder's forward pass in training: precision, compilation, recomputation, ranks."""

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
from slic.encoders.precision import resolve_precision
from slic.engine.distributed import SINGLE, Ranks
from slic.errors import InputError, WorkError

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ComputeOptions:
    """Options that affect the speed of training, and its results only by rounding.

    Attributes:
        device: device to train on.
        workers: number of reader processes.
        augment_on_device: let readers only crop, and the device do the rest.
        compile: compile the encoder with `torch.compile`.
        recompute: store few activations and compute the others again in the backward pass.
        profile: measure the time of each part of a step.

    Raises:
        InputError: both compile and recompute.
    """

    device: torch.device
    workers: int = 0
    augment_on_device: bool = False
    compile: bool = False
    recompute: bool = False
    profile: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.recompute:
            raise InputError("--compile and --recompute cannot be combined: omit one")


def make_forward(
    encoder: Encoder, compute: ComputeOptions, precision: Precision, *, ranks: Ranks = SINGLE
) -> Forward:
    """Return a function from clips `(N, T, size, size, 3)` uint8 to projections `(N, 128)` float32.

    Args:
        encoder: encoder on the device of `compute`; it is used, not copied.
        compute: device, compile and recompute.
        precision: precision of the arithmetic.
        ranks: processes over which gradients are averaged. On GPUs, batch normalisation then
            takes its statistics from the clips of all of them, so that all must call it together.
    """
    project = partial(_projection, encoder, recompute=compute.recompute)
    half = resolve_precision(precision, compute.device) == "bf16"

    def forward(clips: Tensor) -> Tensor:
        with torch.autocast(compute.device.type, dtype=torch.bfloat16, enabled=half):
            values = normalise(clips, device=compute.device, statistics=encoder.statistics)
            rows = project(values)
            return rows.to(torch.promote_types(rows.dtype, torch.float32))

    if not ranks.is_single and compute.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    result = _compiled(forward) if compute.compile else forward
    return result if ranks.is_single else _averaged(encoder, result, compute.device)


class _ForwardModule(nn.Module):
    """A forward function as a module with the encoder's parameters."""

    def __init__(self, encoder: Encoder, forward: Forward) -> None:
        super().__init__()
        self.encoder, self.function = encoder, forward

    def forward(self, clips: Tensor) -> Tensor:
        return self.function(clips)


def _averaged(encoder: Encoder, forward: Forward, device: torch.device) -> Forward:
    """Wrap a forward in DDP, which averages gradients over all ranks."""
    with warnings.catch_warnings():
        # PyTorch 2.15 renames the option, but still accepts it.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(
            _ForwardModule(encoder, forward),
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # averaged before they are used
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
            context_fn=partial(_recompute_contexts, block),
        )
    return encoder.embed(values)[1]


def _recompute_contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _unchanged_statistics(block)


@contextmanager
def _unchanged_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch normalisation update copies of its running statistics in the block.

    The first forward pass has updated them for this batch already. Updates cannot be switched off
    instead: `checkpoint` requires that both passes save the same tensors.
    """
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, originals in zip(norms, buffers, strict=True):
            for name, value in originals.items():
                setattr(norm, name, value.clone())
        yield
    finally:
        for norm, originals in zip(norms, buffers, strict=True):
            for name, value in originals.items():
                setattr(norm, name, value)


def _compiled(forward: Forward) -> Forward:
    """Compile a forward when it is first called, once for each of the few batch sizes.

    Raises:
        WorkError: when called, if there is no compiler, or it fails.
    """
    compiled = torch.compile(forward, dynamic=False)

    def call(clips: Tensor) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return compiled(clips)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise WorkError(f"--compile fails here ({reason}): omit it") from error

    return call
