"""Encoder x clip store -> embedding cache; training and evaluation both use it."""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.cache.embeddings import WindowPositions, write_embeddings
from slic.cache.entries import SPLITS
from slic.clips.pixels import centre_view
from slic.clips.positions import section_starts
from slic.clips.reading import ReaderPool
from slic.clips.windows import Section, whole_video
from slic.config import Precision
from slic.datasets.segments import Windows
from slic.encoders.encoder import Encoder, normalise
from slic.encoders.precision import autocast
from slic.runtime.oom_split import OOMSplitter

READ_AT_ONCE = 16  # clips a job: readers hold two jobs' each
EMBED_AT_ONCE = {"cpu": 32, "cuda": 128}
FloatRows = NDArray[np.float32]


@dataclass(frozen=True)
class Protocol:
    """How videos are embedded: deterministic RGB clips, whose embeddings are averaged.

    Attributes:
        clips: evenly spaced clips a video; one is the centre clip.
        frames, stride: of a clip.
        size: side in pixels.
        windows: if each window of a video is embedded like a video of its own; None for videos.
    """

    clips: int
    frames: int
    stride: int
    size: int
    windows: Windows | None = None

    def __str__(self) -> str:
        part = "" if self.windows is None else f"-{self.windows}"
        return f"{self.clips}clips-{self.frames}x{self.stride}-{self.size}px{part}"


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
        return f"{glob.escape(self.store)}.*-{self.checkpoint}-{self.protocol}.h5"


@dataclass(frozen=True)
class TestClips:
    """Reads every clip of some sections: `(sections * clips, T, size, size, 3)` uint8.

    Attributes:
        sections: whole videos, or parts.
        protocol: which clips.
    """

    sections: tuple[Section, ...]
    protocol: Protocol

    def __call__(self, store: ClipStore) -> Tensor:
        p = self.protocol
        shape = {"clips": p.clips, "frames": p.frames, "stride": p.stride}
        clips = [
            centre_view(store.read(s.video, start, p.frames, stride=p.stride), p.size)
            for s in self.sections
            for start in section_starts(s.first, s.count, length=s.length, **shape)
        ]
        return torch.from_numpy(np.stack(clips))


@torch.no_grad()
def embed(
    encoder: Encoder,
    readers: ReaderPool,
    entries: Sequence[Entry | Section],
    *,
    protocol: Protocol,
    device: torch.device,
    precision: Precision = "auto",
    advance: Callable[[int, float], None] | None = None,
) -> tuple[FloatRows, FloatRows]:
    """Embed videos, in the order given; the encoder's mode is left as it was.

    Args:
        encoder: on `device`.
        readers: of the store that holds the videos.
        entries: N videos of it, or sections of them.
        protocol: which clips.
        device: of the encoder.
        precision: of the encoder's arithmetic.
        advance: called with (videos, clips) done.

    Returns:
        backbone `(N, D)` and projection `(N, 128)` float32, means over a video's clips.

    Raises:
        DamagedChunk: stored bytes are damaged.
        WorkError: the device's memory does not suffice for one clip.
    """
    training = encoder.training
    encoder.eval()
    statistics = encoder.statistics

    def outputs_of(clips: Tensor) -> tuple[Tensor, ...]:
        with autocast(device, precision):
            return tuple(encoder(normalise(clips, device=device, statistics=statistics)))

    in_parts = OOMSplitter(outputs_of)
    backbone: list[Tensor] = []
    projection: list[Tensor] = []
    try:
        for clips in _batches(readers, entries, protocol, device):
            outputs = in_parts(clips)
            # They stay on the device until the end: to fetch them is to wait for it.
            means = [o.float().unflatten(0, (-1, protocol.clips)).mean(1) for o in outputs]
            backbone.append(means[0])
            projection.append(means[1])
            if advance:
                advance(len(means[0]), len(clips))
    finally:
        encoder.train(training)
    return _on_host(backbone), _on_host(projection)


def _on_host(parts: list[Tensor]) -> FloatRows:
    """All rows in one array; the parts are given up one by one, so that memory holds one copy."""
    rows = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=np.float32)
    end = len(rows)
    while parts:
        part = parts.pop()
        rows[end - len(part) : end] = part.cpu().numpy()
        end -= len(part)
    return rows


def _batches(
    readers: ReaderPool,
    entries: Sequence[Entry | Section],
    protocol: Protocol,
    device: torch.device,
) -> Iterator[Tensor]:
    """Clips on the device, some whole videos a batch, so that a mean does not straddle two."""
    videos = max(1, READ_AT_ONCE // protocol.clips)
    sections = [entry if isinstance(entry, Section) else whole_video(entry) for entry in entries]
    groups = [tuple(sections[i : i + videos]) for i in range(0, len(sections), videos)]
    parts = readers.results(TestClips(group, protocol) for group in groups)
    at_once = max(1, EMBED_AT_ONCE[device.type] // (videos * protocol.clips))
    while batch := list(islice(parts, at_once)):
        yield torch.cat([part.to(device, non_blocking=True) for part in batch])


def write_cache(
    folder: Path,
    name: CacheName,
    entries: Sequence[Entry],
    *,
    backbone: FloatRows,
    projection: FloatRows,
    places: WindowPositions | None = None,
) -> EmbeddingCache:
    """Write the embeddings of a store's entries as one immutable cache, and open it.

    Args:
        folder: of the cache.
        name: its name.
        entries: N videos; of windows, the video of each.
        backbone: `(N, D)`.
        projection: `(N, 128)`.
        places: of N windows; None where each row is a whole video.
    """
    path = folder / name.file
    windows = name.protocol.windows
    parts = {} if windows is None else {"window": windows.length, "window_stride": windows.stride}
    write_embeddings(
        path,
        [entry.id for entry in entries] if places is None else places.names(),
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
            **parts,
        },
        places=places,
    )
    return EmbeddingCache(path)
