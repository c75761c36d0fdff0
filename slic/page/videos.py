"""The table of videos that a page shows, one row each."""

from collections.abc import Mapping, Sequence
from typing import Any

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.datasets.segments import known_fps, window_name
from slic.page.thumbnails import Scene


class Videos:
    """Collects the videos that the sections of a page show; sections refer to their rows.

    Rows are numbered in the order of the first request, which is also the order in which they
    get pictures, so request first what a reader sees first.

    Args:
        store: store to read frames from; None if it is missing.
        entries: the store's videos; empty if it is missing.
        split: number of the split that the column `split` is about.
        clusters: `{video id: cluster}` of the clustering that is shown.
        cache: embeddings, for labels and splits of videos that `entries` lacks.

    Attributes:
        ids: name of each row: an id, with `#t=1.5,3.5` (seconds) for a segment.
        scenes: where the pictures of each row are read; None if unknown.
        labels: label by video id, of all known videos; None where there is none.
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
        self.ids: list[str] = []
        self.scenes: list[Scene | None] = []
        self._store = store
        self._entries = {entry.id: entry for entry in entries}
        self._clusters = clusters
        self.labels: dict[str, str | None] = {}
        self._parts: dict[str, str | None] = {}
        if cache is not None:
            ids = cache.ids.tolist()
            labels = (
                dict.fromkeys(ids)
                if cache.labels is None
                else zip(ids, cache.labels.tolist(), strict=True)
            )
            self.labels = {video: label or None for video, label in dict(labels).items()}
            if split in cache.splits:
                self._parts = dict(zip(ids, cache.splits[split].tolist(), strict=True))
        self.labels |= {entry.id: entry.label or None for entry in entries}
        self._parts |= {entry.id: entry.split(split) for entry in entries}
        self._videos: list[str] = []  # id of each row; empty for another store's video
        self._rows: dict[tuple[object, ...], int] = {}

    def row_of(self, video: str, start: int | None = None, end: int | None = None) -> int:
        """Return the row of a video, or of its frames from `start` up to but excluding `end`."""
        entry = self._entries.get(video)
        scene = None
        if self._store is not None and entry is not None:
            scene = _scene(self._store, entry, start, end)
        return self._row((video, start, end), _name(video, entry, start, end), video, scene)

    def row_of_file(self, name: str, store: ClipStore, entry: Entry) -> int:
        """Return the row of a video from another store, such as a query."""
        return self._row((name, store.path), name, "", _scene(store, entry, None, None))

    def _row(self, key: tuple[object, ...], name: str, video: str, scene: Scene | None) -> int:
        if key not in self._rows:
            self._rows[key] = len(self.ids)
            self.ids.append(name)
            self.scenes.append(scene)
            self._videos.append(video)
        return self._rows[key]

    def table(self) -> dict[str, Any]:
        """Return the columns id, label, cluster, split and seconds of all rows."""
        return {
            "id": self.ids,
            "label": [self.labels.get(video) for video in self._videos],
            "cluster": [self._clusters.get(video) for video in self._videos],
            "split": [self._parts.get(video) for video in self._videos],
            "seconds": [
                round((scene.end - scene.start) / scene.fps, 3) if scene and scene.fps else None
                for scene in self.scenes
            ],
        }


def _scene(store: ClipStore, entry: Entry, start: int | None, end: int | None) -> Scene | None:
    """Return the frames that exist; None if there are none."""
    frames = entry.frames or 0
    first, last = max(start or 0, 0), min(frames, frames if end is None else end)
    fps = entry.fps if known_fps(entry.fps) == entry.fps else None
    return Scene(store, entry.id, first, last, fps) if first < last else None


def _name(video: str, entry: Entry | None, start: int | None, end: int | None) -> str:
    if start is None and end is None:
        return video
    rate = known_fps(None if entry is None else entry.fps)
    last = (entry.frames if entry is not None else None) or 0
    return window_name(video, (start or 0) / rate, (last if end is None else end) / rate)
