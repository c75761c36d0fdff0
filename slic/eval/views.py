"""Test views: crops of evenly spaced clips, and the probabilities averaged over them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slic.cache import ClipStore, Entry
from slic.clips.pixels import centre_view
from slic.clips.positions import even_starts
from slic.clips.reading import ReaderPool
from slic.config import Settings
from slic.embed.embedding import EMBED_AT_ONCE
from slic.eval.recipe import Crops
from slic.runtime.oom_split import OOMSplitter

CROP_SHARE = 7 / 8

Frame = NDArray[np.uint8]


def ten_crops(frame: Frame, size: int) -> NDArray[np.uint8]:
    """Squares of 7/8 of the short side, resized: four corners, centre, and all five mirrored.

    Args:
        frame: `(H, W, 3)` uint8.
        size: side in pixels.

    Returns:
        `(10, size, size, 3)` uint8: top left, top right, bottom left, bottom right, centre.
    """
    height, width = frame.shape[:2]
    side = max(1, round(min(height, width) * CROP_SHARE))
    down, right = height - side, width - side
    places = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crops = [
        cv2.resize(frame[top : top + side, left : left + side], (size, size), interpolation=how)
        for top, left in places
    ]
    return np.stack([*crops, *(crop[:, ::-1] for crop in crops)]).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class ClipViews:
    """Reads the views of one clip: `(crops, T, size, size, 3)` uint8.

    Attributes:
        video, length: id, and frames.
        start: first frame of the clip.
        crops: 1 (the centre of the whole short side) or 10.
        settings: of the run.
    """

    video: str
    length: int
    start: int
    crops: Crops
    settings: Settings

    def __call__(self, store: ClipStore) -> Tensor:
        s = self.settings
        views = np.empty((self.crops, s.frames, s.size, s.size, 3), dtype=np.uint8)
        # Frame by frame: however large a video's frames, one is held at a time.
        for i in range(s.frames):
            frame = store.read(self.video, (self.start + i * s.stride) % self.length, 1)
            crops = centre_view(frame, s.size) if self.crops == 1 else ten_crops(frame[0], s.size)
            views[:, i] = crops
        return torch.from_numpy(views)


@torch.no_grad()
def mean_probabilities(
    network: nn.Module,
    readers: ReaderPool,
    entries: Sequence[Entry],
    *,
    settings: Settings,
    clips: int,
    crops: Crops,
    device: torch.device,
    advance: Callable[[int, float], None] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities of videos: softmax averaged over each video's views.

    Args:
        network: clips `(N, T, size, size, 3)` uint8 to logits `(N, C)`; put into eval mode.
        readers: of the store that holds the videos.
        entries: N videos, one at least.
        settings: of the run.
        clips, crops: views of a video.
        device: of the network.
        advance: called with (videos, views) done.

    Returns:
        `(N, C)` float32, each row's sum 1.

    Raises:
        DamagedChunk: stored bytes are damaged.
        WorkError: the device's memory does not suffice for one view.
    """
    network.eval()
    in_parts = OOMSplitter(lambda views: (network(views).float(),))
    sums: Tensor | None = None
    done = 0
    for views in _batches(readers, entries, settings, clips, crops, device):
        of_clips = in_parts(views)[0].softmax(dim=1).unflatten(0, (-1, crops)).mean(dim=1)
        if sums is None:
            sums = of_clips.new_zeros(len(entries), of_clips.shape[1])
        before, done = done, done + len(of_clips)
        sums.index_add_(0, torch.arange(before, done, device=device) // clips, of_clips)
        if advance:
            advance(done // clips - before // clips, len(views))
    assert sums is not None
    return (sums / clips).cpu().numpy()


def _batches(
    readers: ReaderPool,
    entries: Sequence[Entry],
    settings: Settings,
    clips: int,
    crops: Crops,
    device: torch.device,
) -> Iterator[Tensor]:
    """Views on the device, those of some whole clips at once."""
    jobs = (
        ClipViews(entry.id, entry.frames or 0, start, crops, settings)
        for entry in entries
        for start in even_starts(
            entry.frames or 0, clips, frames=settings.frames, stride=settings.stride
        )
    )
    parts = readers.results(jobs)
    at_once = max(1, EMBED_AT_ONCE[device.type] // crops)
    while batch := list(islice(parts, at_once)):
        yield torch.cat([part.to(device, non_blocking=True) for part in batch])
