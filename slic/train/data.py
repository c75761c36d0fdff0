"""Plain clips of a store, for people with their own training loop (docs/own-training-loop.md)."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple, TypedDict, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from slic.cache import ClipStore, View
from slic.cache.clipstore import VIEWS
from slic.cache.entries import SPLITS
from slic.clips.pixels import centre_view
from slic.clips.positions import clip_span, even_starts, random_start
from slic.clips.seeding import seeded
from slic.datasets.splits import Part
from slic.errors import InputError, StoreError

NO_LABEL = -1
CENTRE = -1  # in place of an epoch


class Clip(TypedDict):
    """One item of a ClipDataset.

    Attributes:
        clip: uint8 `(T, size, size, 3)` RGB, or `(T, size, size, 2)` flow in levels.
        id: the video's.
        label: class name, empty where the video has none.
        target: number of that name in `classes`, -1 where the video has none.
    """

    clip: Tensor
    id: str
    label: str
    target: int


class ClipDataset(Dataset[Clip]):
    """One clip of each video of a store, for people with their own training loop.

    `dataset[i]` is a `Clip`, a dict that collates: the centre clip, resized and centre-cropped.
    Call `set_epoch` for random clips instead, which depend on (seed, epoch, id) alone. Safe in
    the workers of a DataLoader, however they start, kept over epochs or not.

    Attributes:
        ids: of the videos, in order.
        classes: all class names in the store, in order.
        targets: `(N,)` int64, the number of each video's class; -1 without a label.

    Args:
        store: a store or its path.
        ids: videos, in this order; all by default.
        part: instead of ids, the videos that a split calls `train`, `test` or `unused`.
        split: of which split; 1 by default.
        view: `frames` or `flow`.
        frames, stride: of a clip. One longer than its video wraps to the first frame.
        size: side in pixels.
        seed: of the random clips.

    Raises:
        InputError: arguments that are impossible.
        StoreError: no store, or it lacks the videos, the split or the flow.
    """

    def __init__(
        self,
        store: ClipStore | str | os.PathLike[str],
        ids: Iterable[str] | None = None,
        *,
        part: Part | None = None,
        split: int | None = None,
        view: View = "frames",
        frames: int = 16,
        stride: int = 1,
        size: int = 112,
        seed: int = 0,
    ) -> None:
        _check_shape(view, frames=frames, stride=stride, size=size)
        chosen = None if ids is None else list(ids)
        _check_choice(chosen, part, split)
        self.store = store if isinstance(store, ClipStore) else ClipStore(store)
        self.view, self.frames, self.stride, self.size = view, frames, stride, size
        self.seed = seed
        self.classes, videos = _videos(self.store, chosen, part, split or 1)
        self.ids = list(videos) if chosen is None else chosen
        rows = [videos[video] for video in self.ids]
        if view == "flow":
            _check_flow(self.store, rows)
        codes = {name: code for code, name in enumerate(self.classes)}
        targets = [NO_LABEL if row.label is None else codes[row.label] for row in rows]
        self.targets = np.array(targets, dtype=np.int64)
        self._lengths = np.array([row.frames for row in rows], dtype=np.int64)
        # In shared memory, so that workers which are kept over epochs hear of the next.
        self._epoch = torch.tensor(CENTRE).share_memory_()
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch.share_memory_()

    @property
    def epoch(self) -> int | None:
        """The epoch whose random clips it gives; None for the centre clips."""
        epoch = int(self._epoch)
        return None if epoch == CENTRE else epoch

    def set_epoch(self, epoch: int | None) -> None:
        """Draw random clips for an epoch, from 0; None for the centre clips.

        To be called between two epochs of a DataLoader: its workers hear of it at once.
        """
        if epoch is not None and epoch < 0:
            raise InputError(f"epoch {epoch}: must be at least 0, or None for the centre clips")
        self._epoch.fill_(CENTRE if epoch is None else epoch)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Clip:
        self._calm_opencv()
        video, length, target = self.ids[index], int(self._lengths[index]), int(self.targets[index])
        epoch = self.epoch
        if epoch is None:
            start = even_starts(length, 1, frames=self.frames, stride=self.stride)[0]
        else:
            span = clip_span(self.frames, self.stride)
            start = random_start(length, span, seeded(self.seed, epoch, video))
        clip = self.store.read(video, start, self.frames, stride=self.stride, view=self.view)
        return {
            "clip": torch.from_numpy(centre_view(clip, self.size)),
            "id": video,
            "label": "" if target == NO_LABEL else self.classes[target],
            "target": target,
        }

    def _calm_opencv(self) -> None:
        """Keep OpenCV to one thread in a worker, as PyTorch keeps itself.

        OpenCV's threads do not survive a fork, and what waits for them waits forever. Asking
        for 0 threads touches none of them, where asking for 1 would join the dead.
        """
        if self._process != os.getpid():
            cv2.setNumThreads(0)
            self._process = os.getpid()


class _Row(NamedTuple):
    label: str | None
    frames: int
    flow: str | None


def _videos(
    store: ClipStore, ids: list[str] | None, part: Part | None, split: int
) -> tuple[list[str], dict[str, _Row]]:
    """All class names of a store, and those of its videos that are asked for."""
    wanted = None if ids is None else set(ids)
    labels, words = set(), set()
    videos: dict[str, _Row] = {}
    columns = ("id", "label", "frames", "flow", f"split{split}")
    for video, label, frames, flow, word in store.index.rows(*columns):
        labels.add(label)
        words.add(word)
        if word == part if part else wanted is None or video in wanted:
            videos[video] = _Row(label, frames, flow)
    missing = [video for video in ids or () if video not in videos]
    if missing:
        raise StoreError(f"{store.path}: contains no video {missing[0]!r}")
    if part and part not in words:
        lacks = f"{part} video in split {split}" if words - {None} else f"split {split}"
        raise StoreError(f"{store.path}: has no {lacks}")
    if not videos:
        raise StoreError(f"{store.path}: contains no video")
    return sorted(labels - {None}), videos


def _check_shape(view: str, **numbers: int) -> None:
    if view not in VIEWS:
        raise InputError(f"view {view!r}: choose frames or flow")
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} {number}: must be at least 1")


def _check_choice(ids: list[str] | None, part: str | None, split: int | None) -> None:
    if ids is not None and part is not None:
        raise InputError("give ids or a part of a split, not both")
    if ids == []:
        raise InputError("ids: give at least one, or None for all videos")
    if part is not None and part not in get_args(Part):
        raise InputError(f"part {part!r}: choose {', '.join(get_args(Part))}")
    if split is not None and split not in SPLITS:
        raise InputError(f"split {split}: choose 1, 2 or 3")
    if split is not None and part is None:
        raise InputError(f"split {split}: say which part of it, such as part='train'")


def _check_flow(store: ClipStore, rows: list[_Row]) -> None:
    without = sum(row.flow is None for row in rows)
    if without:
        raise StoreError(
            f"{store.path}: {without} of {len(rows)} videos have no flow; run"
            f" `slic prep flow {store.path}`"
        )
