"""Run the distributed code paths of training in a group of a single process."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from common import Row
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as Exchange
from train_step import drawn_batch

from slic.config import make_settings
from slic.encoders.encoder import Encoder, new_encoder
from slic.encoders.precision import tune
from slic.engine.distributed import Ranks
from slic.engine.forward import ComputeOptions, make_forward

CHANGES = {
    "cpu": {"batch_size": 4, "frames": 4, "encoder": "small", "size": 32},
    "cuda": {"batch_size": 8, "frames": 8, "size": 112},
}


class Heard(Ranks):
    """A single process that takes the code paths of several."""

    @property
    def is_single(self) -> bool:
        return False


@contextlib.contextmanager
def group_of_one(meeting: Path, *, cuda: bool) -> Iterator[str]:
    """Create a process group of this process alone, and yield its backends."""
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=0, world_size=1)
    try:
        yield backend
    finally:
        dist.destroy_process_group()


def exchanged(norm: nn.SyncBatchNorm, values: Tensor) -> Tensor:
    """Batch normalisation that exchanges statistics through the group.

    PyTorch's module leaves that out where a group is of one.
    """
    statistics = norm.running_mean, norm.running_var
    rest = norm.eps, norm.momentum, dist.group.WORLD, 1
    return Exchange.apply(values, norm.weight, norm.bias, *statistics, *rest)


def _rows_and_gradient(clips: Tensor, device: torch.device, how: str) -> tuple[Tensor, Tensor]:
    """Compute projections `(N, 128)` of a new encoder, and the gradient of all its weights."""
    encoder: Encoder = new_encoder("small" if device.type == "cpu" else "r3d18", seed=0).train()
    encoder = encoder.to(device, memory_format=torch.channels_last_3d)
    known = {} if how == "alone" else {"ranks": Heard()}
    forward = make_forward(encoder, ComputeOptions(device), "fp32", **known)
    if how == "statistics exchanged":
        for module in encoder.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.forward = partial(exchanged, module)
    rows = forward(clips)
    weights = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)).to(device)
    (rows * weights).sum().backward()
    return rows.detach(), torch.cat([w.grad.flatten() for w in encoder.parameters()])


def compare(device: torch.device) -> Iterator[Row]:
    """Return relative differences of embeddings and gradients from those without a group."""
    settings = make_settings("ucf101-16f", options=CHANGES[device.type])
    tune(device, "fp32")
    clips = drawn_batch(settings, device, seed=0)[0]
    alone = _rows_and_gradient(clips, device, "alone")
    ways = ["a group of one"] + ["statistics exchanged"] * (device.type == "cuda")
    for how in ways:
        found = _rows_and_gradient(clips, device, how)
        pairs = zip(found, alone, strict=True)
        apart = [float((mine - theirs).norm() / theirs.norm()) for mine, theirs in pairs]
        yield {"side": how, "embedding": apart[0], "gradient": apart[1]}
    told = torch.ones(3, device=device)
    ranks = Heard()
    ranks.average([told])
    assert ranks.any(True, False) == (True, False)
    assert ranks.on_first(lambda: "made") == "made"
    whole = ranks.gather_rows((alone[0],), len(alone[0]))[0]
    yield {
        "side": "exchange between processes",
        "embedding": float((whole - alone[0]).norm()),
        "gradient": float((told - 1).norm()),
    }
