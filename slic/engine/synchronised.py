"""What several processes that train together do in step, and how one of them shows it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from slic.cache import Entry
from slic.clips.reading import ReaderPool
from slic.embed.embedding import FloatRows, embed
from slic.encoders.encoder import Encoder
from slic.engine.distributed import Ranks
from slic.runtime.progress import progress
from slic.runtime.signals import defer_stops

Item = TypeVar("Item")
Advance = Callable[[int, float], None]


def share_of_normalisation(ranks: Ranks, device: torch.device) -> str | None:
    """What is not the same as in one process, in a line for the user; None if nothing is."""
    if ranks.alone or device.type == "cuda":
        return None
    return (
        f"{ranks.size} processes on {device}: batch normalisation sees each one's share of a batch,"
        " and not all of it as on GPUs"
    )


@contextlib.contextmanager
def shown(ranks: Ranks, total: int, what: str) -> Iterator[Advance]:
    """Progress over `total` steps or videos and their clips; of the first process alone."""
    if not ranks.first:
        yield lambda videos, clips: None
        return
    with progress(total, what, unit="clips") as advance:
        yield advance


class StoppedTogether(KeyboardInterrupt):
    """A stop after the same step in all processes, which can still do something together."""


def can_save(stop: KeyboardInterrupt, ranks: Ranks) -> bool:
    """Whether a checkpoint can be made of where a stop has left the processes."""
    return ranks.alone or isinstance(stop, StoppedTogether)


@contextlib.contextmanager
def in_step(items: Iterator[Item], ranks: Ranks) -> Iterator[Iterator[Item]]:
    """Items of which every process takes its next one, or none does.

    In several processes a Ctrl-C or SIGTERM is held until all have taken as many.

    Raises:
        StoppedTogether: in all, if one was told to stop.
        KeyboardInterrupt: this one was told to stop, and another has ended for it already.
        OtherFailed: another process has failed.
    """
    if ranks.alone:
        yield items
        return
    with defer_stops() as asked:
        yield _agreed(items, ranks, asked)


def _agreed(items: Iterator[Item], ranks: Ranks, asked: Callable[[], bool]) -> Iterator[Item]:
    over: Any = object()
    while True:
        item, failure = over, None
        try:
            item = next(items, over)
        except Exception as error:
            failure = error
        try:
            (stop,) = ranks.agreed(failure, asked())
        except RuntimeError as error:
            if asked() and error is not failure:
                raise KeyboardInterrupt from None
            raise
        if stop:
            raise StoppedTogether
        if item is over:
            return
        yield item


def embed_shares(
    encoder: Encoder, readers: ReaderPool, entries: Sequence[Entry], *, ranks: Ranks, **how: Any
) -> tuple[FloatRows, FloatRows] | None:
    """Embed videos, each process a consecutive share.

    Args:
        encoder: the same in all processes.
        readers: of the store that holds the videos.
        entries: the videos.
        ranks: the processes.
        how: the further arguments of `embed`.

    Returns:
        At the first process backbone `(N, D)` and projection `(N, 128)` of all videos; else None.

    Raises:
        SlicError: a process could not embed its share.
    """
    mine = ranks.share(entries)
    found = ranks.each(lambda: embed(encoder, readers, mine, **how) if mine else None)
    parts = [part for part in ranks.collected(found) if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    return np.concatenate([b for b, _ in parts]), np.concatenate([p for _, p in parts])
