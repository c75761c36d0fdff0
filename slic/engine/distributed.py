"""Train one run in several processes: their ranks, what they exchange, and how they stop.

A process that fails ends with its own error message, and `torchrun` then stops the others. What
these were waiting for fails too; `joined` reports that as one line.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from slic.errors import InputError, SlicError, WorkError
from slic.runtime.progress import progress
from slic.runtime.signals import PR_SET_PDEATHSIG, defer_stops

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int, float], None]  # called with (steps or videos, clips) done
# The other processes wait for rank 0 while it clusters.
TIMEOUT = timedelta(minutes=30)
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_BAD_ENVIRONMENT = (
    f"{', '.join(VARIABLES)}: inconsistent values; unset these variables, or start with torchrun"
)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among those that train one run; by default it is the only one.

    Every method except `share` must be called by all processes, in the same order.

    Attributes:
        rank: rank of this process, from 0. Only rank 0 writes files.
        size: number of processes.
        local_rank: rank of this process among those on this machine, from 0.
        local_size: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_single(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the process that writes."""
        return self.rank == 0

    def edges(self, count: int) -> list[int]:
        """Split `count` items into consecutive shares and return their `size + 1` boundaries."""
        return [count * rank // self.size for rank in range(self.size + 1)]

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this rank's consecutive share of the items; lengths differ by one at most."""
        edges = self.edges(len(items))
        return items[edges[self.rank] : edges[self.rank + 1]]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any rank."""
        if self.is_single:
            return flags
        values = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return tuple(values.bool().tolist())

    def on_first(self, make: Callable[[], Result]) -> Result:
        """Run `make` on rank 0 and broadcast its result to every rank."""
        if self.is_single:
            return make()
        content = [make() if self.first else None]
        dist.broadcast_object_list(content, src=0, device=CPU)
        return cast(Result, content[0])

    def gather(self, value: Result) -> list[Result]:
        """Return the values of all ranks in order on rank 0, and an empty list elsewhere."""
        if self.is_single:
            return [value]
        values = cast("list[Result]", [None] * self.size) if self.first else None
        dist.gather_object(value, values)
        return values or []

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, all of one dtype and device, by their means over all ranks."""
        if self.is_single or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.div_(self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather_rows(self, views: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
        """Gather the rows of a batch from all ranks on every rank, with gradients.

        Every rank must compute the same loss from them. A rank's own rows receive their gradient
        times the number of ranks, over which DDP averages afterwards: the mean of
        `size` x (gradient of a share) is the gradient of the whole batch.

        Args:
            views: this rank's share, `(b, D)` each.
            count: B, number of rows of the whole batch.

        Returns:
            `(B, D)` for each of the views.
        """
        if self.is_single:
            return tuple(views)
        rows = cast(Tensor, _GatheredRows.apply(torch.cat(tuple(views), dim=1), count, self))
        return rows.chunk(len(views), dim=1)


class _GatheredRows(torch.autograd.Function):
    """`Ranks.gather_rows` of one tensor. The library's own needs shares of equal length."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, ranks: Ranks) -> Tensor:
        edges = ranks.edges(count)
        ctx.begin, ctx.end, ctx.size = edges[ranks.rank], edges[ranks.rank + 1], ranks.size
        # Gloo needs tensors of one size.
        longest = -(-count // ranks.size)
        padded = rows.new_zeros(longest, rows.shape[1])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(ranks.size)]
        dist.all_gather(parts, padded)
        lengths = [end - begin for begin, end in pairwise(edges)]
        return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.begin : ctx.end] * ctx.size, None, None


SINGLE = Ranks()


def this_rank() -> Ranks:
    """Return the rank of this process from `torchrun`'s environment variables, if they are set.

    Raises:
        InputError: impossible values, which no `torchrun` sets.
    """
    if any(name not in os.environ for name in VARIABLES):
        return SINGLE
    words = [os.environ[name] for name in VARIABLES]
    words.append(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    rank, size, local, local_size = (int(w) if w.isdecimal() else -1 for w in words)
    if not 0 <= local <= rank < size or local_size < 1:
        raise InputError(_BAD_ENVIRONMENT)
    return SINGLE if size == 1 else Ranks(rank, size, local, local_size)


@contextlib.contextmanager
def joined(*, timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Connect the processes that `torchrun` has started; their errors name the process.

    Args:
        timeout: the longest time that one process waits for the others.

    Raises:
        InputError: environment variables that no `torchrun` sets.
        WorkError: another process has ended, cannot be reached, or is silent for too long.
    """
    ranks = this_rank()
    if ranks.is_single:
        yield ranks
        return
    where = f"process {ranks.rank} of {ranks.size}"
    try:
        _stop_with_parent()
        _connect(timeout)
        yield ranks
        dist.destroy_process_group()
    except SlicError as error:
        raise type(error)(f"{where}: {error}") from error
    except RuntimeError as error:
        # Gloo's errors are plain RuntimeErrors.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise WorkError(
            f"{where}: lost contact with another process: it has ended (see its own message), is"
            " silent, or is on another network (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the"
            " one to use); run the same command again to continue"
        ) from error


def _stop_with_parent() -> None:
    """Ask Linux to stop this process with its `torchrun`, which cannot do so if it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _connect(timeout: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timeout)
    except ValueError:  # the address of rank 0 is missing or malformed
        raise InputError(_BAD_ENVIRONMENT) from None


class StoppedTogether(KeyboardInterrupt):
    """A stop of all processes after the same step, so that a checkpoint can still be saved."""


@contextlib.contextmanager
def synchronised_batches(items: Iterator[Item], ranks: Ranks) -> Iterator[Iterator[Item]]:
    """Iterate such that a stop of one process stops all of them before the same item.

    With several processes, Ctrl-C and SIGTERM are held until all have taken equally many items.

    Raises:
        StoppedTogether: on all ranks, if any of them was told to stop.
    """
    if ranks.is_single:
        yield items
        return
    with defer_stops() as stop_requested:
        yield _until_stopped(items, ranks, stop_requested)


def _until_stopped(
    items: Iterator[Item], ranks: Ranks, stop_requested: Callable[[], bool]
) -> Iterator[Item]:
    end: Any = object()
    while True:
        item = next(items, end)
        (stop,) = ranks.any(stop_requested())
        if stop:
            raise StoppedTogether
        if item is end:
            return
        yield item


@contextlib.contextmanager
def first_progress(ranks: Ranks, total: int, what: str) -> Iterator[Advance]:
    """Show progress over `total` steps or videos, on rank 0 only; yields `advance`."""
    if not ranks.first:
        yield lambda videos, clips: None
        return
    with progress(total, what, unit="clips") as advance:
        yield advance
