"""Processes that train one run together: which this is, and what they tell each other."""

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
from slic.runtime.signals import PR_SET_PDEATHSIG, exit_code_of_stop

Item = TypeVar("Item")
Made = TypeVar("Made")
# The others wait for the first while it clusters.
PATIENCE = timedelta(minutes=30)
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
CPU = torch.device("cpu")


class OtherFailed(WorkError):
    """Another of the processes has failed, and says why."""


@dataclass(frozen=True)
class Ranks:
    """One of the processes of a training; the only one by default, which tells nobody anything.

    Every method but `share` is to be called by all of them, in the same order.

    Attributes:
        rank: its number, from 0. The first alone writes.
        size: how many there are.
        local: its number among those of this machine, from 0.
        beside: how many those are.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    beside: int = 1

    @property
    def alone(self) -> bool:
        """Whether it is the only one."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def edges(self, count: int) -> list[int]:
        """Where the shares of so many items begin and end: `size + 1` numbers."""
        return [count * rank // self.size for rank in range(self.size + 1)]

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its consecutive part of the items; shares differ in length by one at most."""
        edges = self.edges(len(items))
        return items[edges[self.rank] : edges[self.rank + 1]]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether any process has set it."""
        if self.alone:
            return flags
        told = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return tuple(told.bool().tolist())

    def decided(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, at all of them; the others only wait.

        Raises:
            SystemExit: in the others, if it fails, with the exit code of its error.
        """
        if self.alone:
            return make()
        if not self.first:
            made, code = self._heard([None, None])
            if code is not None:
                raise SystemExit(code)
            return made
        try:
            made = make()
        except BaseException as error:
            with contextlib.suppress(RuntimeError):  # they may be gone, which is not what failed
                self._heard([None, _exit_code(error)])
            raise
        return self._heard([made, None])[0]

    def _heard(self, content: list[Any]) -> list[Any]:
        dist.broadcast_object_list(content, src=0, device=CPU)
        return content

    def agreed(self, failure: Exception | None, *flags: bool) -> tuple[bool, ...]:
        """`any` of the flags, unless a process has failed: then all do.

        Raises:
            Exception: the failure; if the first process has failed too, it alone raises its own.
            OtherFailed: another process has failed.
        """
        here = failure is not None
        anywhere, at_first, *told = self.any(here, here and self.first, *flags)
        if failure is not None and (self.first or not at_first):
            raise failure
        if anywhere:
            raise OtherFailed("another process has failed, and says why")
        return tuple(told)

    def each(self, make: Callable[[], Made]) -> Made:
        """What each process makes for itself; if one fails, all do.

        Raises:
            SlicError: as `agreed` raises it.
        """
        failure: SlicError | None = None
        try:
            made = make()
        except SlicError as error:
            failure = error
        self.agreed(failure)
        return made

    def collected(self, value: Made) -> list[Made]:
        """What all have, in order, at the first process; nothing at the others."""
        if self.alone:
            return [value]
        values = cast("list[Made]", [None] * self.size) if self.first else None
        dist.gather_object(value, values)
        return values or []

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, of one dtype and device, by their means over all processes."""
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.div_(self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def whole(self, views: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
        """Rows of a batch, of which each process has its share, at all of them, with gradients.

        Every process is to compute the same loss of them. Its gradients reach the rows of the
        process itself, times the number of processes, over which DDP takes the mean afterwards:
        the mean of `size` x (a share's part of the gradient) is the gradient of the whole batch.

        Args:
            views: of the share, `(b, D)` each.
            count: B, the rows of the whole batch.

        Returns:
            `(B, D)` for each of the views.
        """
        if self.alone:
            return tuple(views)
        rows = cast(Tensor, _Whole.apply(torch.cat(tuple(views), dim=1), count, self))
        return rows.chunk(len(views), dim=1)


class _Whole(torch.autograd.Function):
    """`Ranks.whole` of one tensor."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, ranks: Ranks) -> Tensor:
        edges = ranks.edges(count)
        ctx.begin, ctx.end, ctx.size = edges[ranks.rank], edges[ranks.rank + 1], ranks.size
        # Of one size, as Gloo wants them.
        longest = -(-count // ranks.size)
        mine = rows.new_zeros(longest, rows.shape[1])
        mine[: len(rows)] = rows
        found = [torch.empty_like(mine) for _ in range(ranks.size)]
        dist.all_gather(found, mine)
        lengths = [end - begin for begin, end in pairwise(edges)]
        return torch.cat([part[:n] for part, n in zip(found, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.begin : ctx.end] * ctx.size, None, None


ALONE = Ranks()


def this_rank() -> Ranks:
    """Which process this is, by the environment that `torchrun` makes; else the only one.

    Raises:
        InputError: an environment that no `torchrun` makes.
    """
    found = {name: os.environ.get(name) for name in (*NAMES, "LOCAL_WORLD_SIZE")}
    if any(found[name] is None for name in NAMES):
        return ALONE
    try:
        rank, size, local = (int(found[name] or "") for name in NAMES)
        beside = int(found["LOCAL_WORLD_SIZE"] or "1")
    except ValueError:
        rank = size = local = beside = -1
    if not 0 <= local <= rank < size or beside < 1:
        raise _no_torchruns()
    return ALONE if size == 1 else Ranks(rank, size, local, beside)


def _no_torchruns() -> InputError:
    told = ", ".join(f"{name}={os.environ.get(name)}" for name in NAMES)
    return InputError(f"{told}: as no torchrun sets them; unset them, or start by torchrun")


@contextlib.contextmanager
def joined(*, patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """Within, the processes that `torchrun` has started hear each other.

    Errors name the process they are of. Of a stop, and of what has failed in another one, the first
    alone tells.

    Args:
        patience: the longest that one waits for the others.

    Raises:
        InputError: an environment that no `torchrun` makes.
        WorkError: another process has ended, cannot be reached, or is silent for too long.
    """
    ranks = this_rank()
    if ranks.alone:
        yield ranks
        return
    where = f"process {ranks.rank} of {ranks.size}"
    try:
        _stop_with_parent()
        _connect(patience)
        yield ranks
        dist.destroy_process_group()
    except OtherFailed as error:
        if ranks.first:
            raise OtherFailed(f"{where}: {error}") from error
        raise SystemExit(error.exit_code) from None
    except SlicError as error:
        raise type(error)(f"{where}: {error}") from error
    except KeyboardInterrupt:
        if ranks.first:
            raise
        raise SystemExit(exit_code_of_stop()) from None
    except RuntimeError as error:
        if not _is_of_contact(error):
            raise
        raise WorkError(
            f"{where}: lost contact with another one, which has ended or is silent; the same"
            " command continues"
        ) from error


def _stop_with_parent() -> None:
    """Ask Linux to stop this process when a `torchrun` ends that could not stop it itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _connect(patience: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=patience)
    except ValueError:  # no address of the first process, or none that is one
        raise _no_torchruns() from None
    except RuntimeError as error:
        if not _is_of_contact(error):
            raise
        raise WorkError(
            "cannot reach the others: see that all are started; GLOO_SOCKET_IFNAME and"
            " NCCL_SOCKET_IFNAME name the network to take, where there are several"
        ) from error


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SlicError):
        return error.exit_code
    return exit_code_of_stop() if isinstance(error, KeyboardInterrupt) else 1


def _is_of_contact(error: RuntimeError) -> bool:
    """Whether an error is of the connections among the processes; Gloo has no kind of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
