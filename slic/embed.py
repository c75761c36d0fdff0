"""Encoder x clip store -> embedding cache; training and evaluation both use it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.cache.embeddings import write_embeddings
from slic.cache.index import SPLITS
from slic.clips import centre_view, even_starts, normalise
from slic.encoders import Encoder
from slic.errors import SlicError, WorkError
from slic.processes import loader_context, one_thread

CLIPS_AT_ONCE = 32
FloatRows = NDArray[np.float32]


@dataclass(frozen=True)
class Protocol:
    """How videos are embedded: deterministic RGB clips, whose embeddings are averaged.

    Attributes:
        clips: evenly spaced clips a video; one is the centre clip.
        frames, stride: of a clip.
        size: side in pixels.
    """

    clips: int
    frames: int
    stride: int
    size: int

    def __str__(self) -> str:
        return f"{self.clips}clips-{self.frames}x{self.stride}-{self.size}px"


@dataclass(frozen=True)
class CacheName:
    """What one embedding cache is of, and so its file's name.

    Attributes:
        store: the store's name.
        content: digest of what the store held.
        checkpoint: epoch and digest of the weights.
        protocol: how videos were embedded.
        training: whether it holds the training videos alone, for clustering.
    """

    store: str
    content: str
    checkpoint: str
    protocol: Protocol
    training: bool = False

    @property
    def file(self) -> str:
        """`<store>.<content>-<checkpoint>-<protocol>.h5`, with `-train` for a training cache."""
        part = "-train" if self.training else ""
        return f"{self.store}.{self.content}-{self.checkpoint}-{self.protocol}{part}.h5"

    @property
    def any_content(self) -> str:
        """Glob of the caches of a store of this name, whatever it held."""
        return f"{_escaped(self.store)}.*-{self.checkpoint}-{self.protocol}.h5"


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


class _TestClips(Dataset):
    """Every clip of every video, as `(T, size, size, 3)` uint8."""

    def __init__(self, store: ClipStore, entries: Sequence[Entry], protocol: Protocol) -> None:
        self.store, self.protocol = store, protocol
        # Not the clips: ten of each of 240,000 videos are much to send to every worker.
        self.videos = [(entry.id, entry.frames or 0) for entry in entries]

    def __len__(self) -> int:
        return len(self.videos) * self.protocol.clips

    def __getitem__(self, index: int) -> Tensor:
        p = self.protocol
        video, length = self.videos[index // p.clips]
        starts = even_starts(length, p.clips, frames=p.frames, stride=p.stride)
        clip = self.store.read(video, starts[index % p.clips], p.frames, stride=p.stride)
        return torch.from_numpy(centre_view(clip, p.size))


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Within, an error of a DataLoader's worker is the line it was, without the traceback.

    Raises:
        SlicError: of the kind raised in the worker.
        WorkError: a worker died.
    """
    try:
        yield
    except SlicError as error:
        lines = str(error).splitlines()
        if len(lines) < 2:
            raise
        kind = type(error)
        line = lines[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")
        raise kind(line) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkError(
            "a reading process died (out of memory?): run the same command again to continue,"
            " with fewer --workers"
        ) from error


@torch.no_grad()
def embed(
    encoder: Encoder,
    store: ClipStore,
    entries: Sequence[Entry],
    *,
    protocol: Protocol,
    device: torch.device,
    workers: int = 0,
    advance: Callable[[int, float], None] | None = None,
) -> tuple[FloatRows, FloatRows]:
    """Embed videos, in the order given; the encoder's mode is left as it was.

    Args:
        encoder: on `device`.
        store: where the clips are.
        entries: N videos of it.
        protocol: which clips.
        device: of the encoder.
        workers: reading processes; 0 reads in this one.
        advance: called with (videos, clips) done.

    Returns:
        backbone `(N, D)` and projection `(N, 128)` float32, means over a video's clips.
    """
    training = encoder.training
    encoder.eval()
    # Batches hold whole videos, so that a mean does not straddle two of them.
    videos_at_once = max(1, CLIPS_AT_ONCE // protocol.clips)
    loader = DataLoader(
        _TestClips(store, entries, protocol),
        batch_size=videos_at_once * protocol.clips,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context=loader_context() if workers else None,
        worker_init_fn=one_thread,
    )
    rows: list[tuple[FloatRows, FloatRows]] = []
    try:
        for clips in _read(loader):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                outputs = encoder(normalise(clips, device=device))
            means = [o.float().unflatten(0, (-1, protocol.clips)).mean(1).cpu() for o in outputs]
            rows.append((means[0].numpy(), means[1].numpy()))
            if advance:
                advance(len(means[0]), len(clips))
    finally:
        encoder.train(training)
    return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])


def _read(loader: DataLoader) -> Iterator[Tensor]:
    with worker_errors():
        yield from loader


def write_cache(
    folder: Path,
    name: CacheName,
    entries: Sequence[Entry],
    *,
    backbone: FloatRows,
    projection: FloatRows,
) -> EmbeddingCache:
    """Write the embeddings of a store's entries as one immutable cache, and open it."""
    path = folder / name.file
    write_embeddings(
        path,
        [entry.id for entry in entries],
        backbone=backbone,
        projection=projection,
        labels=[entry.label for entry in entries],
        splits={number: [entry.split(number) for entry in entries] for number in SPLITS},
        attributes={
            "store": name.store,
            "store_digest": name.content,
            "checkpoint": name.checkpoint,
            "protocol": str(name.protocol),
            "clips": name.protocol.clips,
            "frames": name.protocol.frames,
            "stride": name.protocol.stride,
            "size": name.protocol.size,
        },
    )
    return EmbeddingCache(path)
