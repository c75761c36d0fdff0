"""Test views: crops of evenly spaced clips, and class probabilities averaged over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slic.cache import ClipStore, Entry
from slic.clips.pixels import centre_view, resize
from slic.clips.positions import even_starts
from slic.clips.reading import ReaderPool
from slic.config import Settings
from slic.embed.embedding import EMBED_AT_ONCE
from slic.eval.recipe import Crops
from slic.runtime.oom_split import OOMSplitter

CROP_SHARE = 7 / 8  # side of a crop, relative to the frame's short side


def ten_crops(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut squares of 7/8 of the short side: four corners, the centre, and their mirror images.

    Args:
        frame: `(H, W, 3)` uint8.
        size: Side of the result in pixels.

    Returns:
        `(10, size, size, 3)` uint8: top left, top right, bottom left, bottom right and centre,
        then the same mirrored.
    """
    height, width = frame.shape[:2]
    side = max(1, round(min(height, width) * CROP_SHARE))
    down, right = height - side, width - side
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = [resize(frame[top : top + side, left : left + side], size) for top, left in corners]
    return np.stack([*crops, *(crop[:, ::-1] for crop in crops)])


@dataclass(frozen=True)
class ClipViews:
    """A job of the readers: the views of one clip, `(crops, T, size, size, 3)` uint8.

    Attributes:
        video: Id of the video.
        length: Its number of frames.
        start: First frame of the clip.
        crops: 1 (centre of the frame) or 10.
        settings: Settings of the run, for the clip's shape.
    """

    video: str
    length: int
    start: int
    crops: Crops
    settings: Settings

    def __call__(self, store: ClipStore) -> Tensor:
        s = self.settings
        views = np.empty((self.crops, s.frames, s.size, s.size, 3), dtype=np.uint8)
        # Frame by frame, so that memory holds only one frame, however large.
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
    """Compute class probabilities of videos: the softmax, averaged over each video's views.

    Args:
        network: Maps clips `(N, T, size, size, 3)` uint8 to logits `(N, C)`; is set to evaluation
            mode.
        readers: Reader processes of the videos' store.
        entries: The N videos, at least one.
        settings: Settings of the run, for the clips' shape.
        clips: Evenly spaced clips of each video.
        crops: Crops of each clip.
        device: The network's device.
        advance: Called with the numbers of videos and views done.

    Returns:
        `(N, C)` float32; each row sums to 1.

    Raises:
        DamagedChunk: Stored bytes are damaged.
        WorkError: The device's memory does not suffice for one view.
    """
    network.eval()
    split = OOMSplitter(lambda views: (network(views).float(),))
    shape = {"frames": settings.frames, "stride": settings.stride}
    jobs = (
        ClipViews(entry.id, entry.frames or 0, start, crops, settings)
        for entry in entries
        for start in even_starts(entry.frames or 0, clips, **shape)
    )
    results = readers.results(jobs)
    at_once = max(1, EMBED_AT_ONCE[device.type] // crops)
    sums: Tensor | None = None
    done = 0
    while batch := list(islice(results, at_once)):
        views = torch.cat([part.to(device, non_blocking=True) for part in batch])
        of_clips = split(views)[0].softmax(dim=1).unflatten(0, (-1, crops)).mean(dim=1)
        if sums is None:
            sums = of_clips.new_zeros(len(entries), of_clips.shape[1])
        before, done = done, done + len(of_clips)
        sums.index_add_(0, torch.arange(before, done, device=device) // clips, of_clips)
        if advance:
            advance(done // clips - before // clips, len(views))
    assert sums is not None
    return (sums / clips).cpu().numpy()
