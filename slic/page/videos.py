"""The table of the videos that a report shows, each with a row of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.datasets.segments import known_fps, window_name
from slic.page.thumbnails import Scene

LONGEST_S = 1e9  # frame rates are read from files, and may be as good as none


@dataclass(frozen=True)
class _Row:
    """A video or some of its frames; `entry` and `scene` are None where the store is gone."""

    name: str
    video: str
    entry: Entry | None
    scene: Scene | None


class Videos:
    """Collects the videos that any part of a report shows; every part refers to their rows.

    Rows are numbered in the order of being asked for, which is also that in which they get
    pictures: what a reader sees first is asked for first.

    Args:
        store: where frames are read from; None where it is gone.
        entries: of the store's videos; empty where it is gone.
        split: whose training and test videos are told apart.
        clusters: `{video id: cluster}` of the clustering shown.
        cache: has labels and splits of videos that `entries` lacks.
    """

    def __init__(
        self,
        store: ClipStore | None,
        entries: Sequence[Entry],
        *,
        split: int,
        clusters: Mapping[str, int],
        cache: EmbeddingCache | None = None,
    ) -> None:
        self._store = store
        self._entries = {entry.id: entry for entry in entries}
        self._split = split
        self._clusters = clusters
        self._cached = {} if cache is None else _facts(cache, split)
        self._rows: list[_Row] = []
        self._places: dict[tuple[object, ...], int] = {}

    @property
    def ids(self) -> list[str]:
        """What each row is called: an id, with `#t=1.5,3.5` (seconds) where it is a segment."""
        return [row.name for row in self._rows]

    def row_of(self, video: str, start: int | None = None, end: int | None = None) -> int:
        """The row of a video, or of its frames `start` up to before `end`; made once."""
        key = (video, start, end)
        if key not in self._places:
            entry = self._entries.get(video)
            scene = _scene(self._store, entry, start, end)
            self._add(key, _Row(_segment(video, entry, start, end), video, entry, scene))
        return self._places[key]

    def row_of_file(self, name: str, store: ClipStore, entry: Entry) -> int:
        """The row of a video that is not of this store, such as a query: `entry` of `store`."""
        key = (name, store.path)
        if key not in self._places:
            self._add(key, _Row(name, "", entry, _scene(store, entry, None, None)))
        return self._places[key]

    def _add(self, key: tuple[object, ...], row: _Row) -> None:
        self._places[key] = len(self._rows)
        self._rows.append(row)

    def scenes(self) -> list[Scene | None]:
        """Where the pictures of each row are read; None where that is unknown."""
        return [row.scene for row in self._rows]

    def table(self) -> dict[str, Any]:
        """`id, label, cluster, split, seconds` of all rows, without `still` (`thumbnails`)."""
        facts = [self._facts_of(row) for row in self._rows]
        return {
            "id": self.ids,
            "label": [label for label, _ in facts],
            "cluster": [self._clusters.get(row.video) for row in self._rows],
            "split": [part for _, part in facts],
            "seconds": [_seconds(row.scene) for row in self._rows],
        }

    def _facts_of(self, row: _Row) -> tuple[str | None, str | None]:
        if row.entry is None:
            return self._cached.get(row.video, (None, None))
        return row.entry.label or None, row.entry.split(self._split)


def _facts(cache: EmbeddingCache, split: int) -> dict[str, tuple[str | None, str | None]]:
    """Label and part of each video of a cache."""
    nothing = [None] * len(cache.ids)
    labels = nothing if cache.labels is None else cache.labels.tolist()
    parts = cache.splits[split].tolist() if split in cache.splits else nothing
    rows = zip(cache.ids.tolist(), labels, parts, strict=True)
    return {video: (label or None, part) for video, label, part in rows}


def _rate(fps: float | None) -> float | None:
    return fps if fps is not None and math.isfinite(fps) and fps > 0 else None


def _scene(
    store: ClipStore | None, entry: Entry | None, start: int | None, end: int | None
) -> Scene | None:
    """The frames meant, of those there are; None where there is none."""
    if store is None or entry is None:
        return None
    first = max(start or 0, 0)
    last = min(entry.frames or 0, (entry.frames or 0) if end is None else end)
    return Scene(store, entry.id, first, last, _rate(entry.fps)) if first < last else None


def _segment(video: str, entry: Entry | None, start: int | None, end: int | None) -> str:
    """What a video, or its frames `start` up to before `end`, is called."""
    if start is None and end is None:
        return video
    rate = known_fps(None if entry is None else entry.fps)
    last = (entry.frames if entry is not None else None) or 0
    return window_name(video, (start or 0) / rate, (last if end is None else end) / rate)


def _seconds(scene: Scene | None) -> float | None:
    if scene is None or scene.fps is None:
        return None
    return round(min((scene.end - scene.start) / scene.fps, LONGEST_S), 3)
