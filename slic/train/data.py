"""Plain clips of a store, for people with their own training loop."""

import os
from collections.abc import Iterable

from torch import Tensor
from torch.utils.data import Dataset

from slic.cache import ClipStore
from slic.clips import as_tensor, centre_view, clip_span, even_starts
from slic.errors import StoreError
from slic.train.sampling import anywhere, seeded


class ClipDataset(Dataset):
    """One clip of each video of a store, for people with their own training loop.

    `dataset[i]` is a dict of `clip`, a uint8 tensor `(T, size, size, 3)`, `id` and `label`
    (empty where the video has none, so that batches collate). The clip is the centre one,
    resized and centre-cropped; call `set_epoch` for random clips instead, which depend on
    (seed, epoch, id) alone.

    Args:
        store: a store or its path.
        ids: videos, all by default.
        frames, stride: of a clip.
        size: side in pixels.
        seed: of the random clips.

    Raises:
        StoreError: no store, or it lacks one of the ids.
    """

    def __init__(
        self,
        store: ClipStore | str | os.PathLike[str],
        ids: Iterable[str] | None = None,
        *,
        frames: int = 16,
        stride: int = 1,
        size: int = 112,
        seed: int = 0,
    ) -> None:
        self.store = store if isinstance(store, ClipStore) else ClipStore(store)
        entries = {entry.id: entry for entry in self.store.entries()}
        self.ids = list(entries) if ids is None else list(ids)
        missing = [video for video in self.ids if video not in entries]
        if missing:
            raise StoreError(f"{self.store.path}: holds no video {missing[0]!r}")
        self.labels = [entries[video].label or "" for video in self.ids]
        self.lengths = [entries[video].frames or 0 for video in self.ids]
        self.frames, self.stride, self.size, self.seed = frames, stride, size, seed
        self.epoch: int | None = None

    def set_epoch(self, epoch: int | None) -> None:
        """Draw random clips for an epoch; None for the centre clips.

        Workers that a DataLoader keeps (`persistent_workers`) do not hear of it.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        video, length = self.ids[index], self.lengths[index]
        if self.epoch is None:
            start = even_starts(length, 1, frames=self.frames, stride=self.stride)[0]
        else:
            span = clip_span(self.frames, self.stride)
            start = anywhere(length, span, seeded(self.seed, self.epoch, video))
        clip = self.store.read(video, start, self.frames, stride=self.stride)
        return {
            "clip": as_tensor(centre_view(clip, self.size)),
            "id": video,
            "label": self.labels[index],
        }
