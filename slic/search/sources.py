"""Frames and embeddings of queries."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, EmbeddingCache, Entry
from slic.cache.entries import fingerprint
from slic.clips.windows import Section, whole_video
from slic.config import Feature
from slic.datasets.segments import ends_before, known_fps
from slic.datasets.videos import Video
from slic.embed.cached import embed_entries
from slic.embed.embedding import FloatRows, Protocol
from slic.errors import CacheError, InputError
from slic.neighbours.exact import unit_float32
from slic.prep.frames_video import FrameJob, close_decoder, store_frames
from slic.runs import Run
from slic.search.nearest import Moment
from slic.search.queries import Query

# How query files are stored if the searched store is gone: the defaults of `slic prep frames`.
_STORED: dict[str, Any] = {"short_side": 128, "codec": "jpeg", "quality": 90}


class Sources:
    """The frames of queries; video files are decoded into a store of their own.

    Attributes:
        store: Path of the searched store, which may be gone.
        own: Path of the store for files.
        queries: The queries that can be read.
        files: The stored video of each file's query, by the query's name.
        stored: The video in the searched store of each id's query; empty if the store is gone.
        sections: The frames of each id's query that are to be embedded, as they are not a video of
            the cache.
        failures: The reason for each query that cannot be read.

    Args:
        store: Path of the searched store.
        folder: Folder for the store of files.
        queries: All queries.
        windowed: Windows are searched, not whole videos.

    Raises:
        InputError: A video ends before the segment begins, or frames of a store that is gone are
            needed.
    """

    def __init__(self, store: Path, folder: Path, queries: list[Query], *, windowed: bool) -> None:
        self.store, self.own, self._windowed = store, folder / "queries.zarr", windowed
        ids = [query for query in queries if not query.is_file]
        parts = [query for query in ids if windowed or query.segment is not None]
        self.stored: dict[str, Entry] = {}
        if store.is_dir():
            clips = ClipStore(store)
            self.stored = {query.name: clips.entry(query.video) for query in ids}
        elif parts:
            raise InputError(
                f"{parts[0].name!r}: its frames are in {store}, which is gone; give a video file"
            )
        self.sections = {query.name: _section(query, self.stored[query.name]) for query in parts}
        self.files, self.failures = _store_files(queries, self.own, store)
        self.queries = [query for query in queries if query.name not in self.failures]

    def embed(
        self,
        run: Run,
        cache: EmbeddingCache,
        feature: Feature,
        *,
        protocol: Protocol,
        **reading: Any,
    ) -> tuple[FloatRows, list[Moment | None]]:
        """Embed the readable queries; videos of the cache are taken from it.

        Args:
            run: The run whose encoder is used.
            cache: The searched cache.
            feature: Which embedding.
            protocol: How each query is embedded.
            **reading: `device` and `workers`.

        Returns:
            `(Q, D)` embeddings of unit length, and the moment of the store that each query is, or
            None.

        Raises:
            CacheError: A video of the store is not in its cache.
        """
        rows: dict[str, NDArray[np.float32]] = {}
        for path, sections in ((self.own, self.files), (self.store, self.sections)):
            if sections:
                clips = ClipStore(path)
                backbone, projection = embed_entries(
                    run, clips, list(sections.values()), protocol=protocol, **reading
                )
                clips.index.close()
                embedded = backbone if feature == "backbone" else projection
                rows |= dict(zip(sections, embedded, strict=True))
        cached = cache.backbone if feature == "backbone" else cache.projection
        numbers = {video: row for row, video in enumerate(cache.ids.tolist())}
        for query in self.queries:
            if query.name not in rows:
                if query.video not in numbers:
                    raise CacheError(f"{cache.path}: contains no video {query.video!r}")
                rows[query.name] = cached[numbers[query.video]]
        units = unit_float32([rows[query.name] for query in self.queries], name="queries")
        return units, [self._moment(query) for query in self.queries]

    def _moment(self, query: Query) -> Moment | None:
        if query.is_file:
            return None
        if not self._windowed:
            return Moment(query.video)
        section, fps = self.sections[query.name], known_fps(self.stored[query.name].fps)
        return Moment(query.video, section.first / fps, (section.first + section.count) / fps)


def _section(query: Query, entry: Entry) -> Section:
    """Return the frames of a stored video that a query means.

    Raises:
        InputError: The video ends before the segment begins.
    """
    if query.segment is None:
        return whole_video(entry)
    length = entry.frames or 0
    first, count = query.segment.frames(known_fps(entry.fps))
    if first >= length:
        raise InputError(f"{query.name!r}: {ends_before(query.segment, length, entry.fps)}")
    room = length - first
    return Section(entry.id, length, first, room if count is None else min(count, room))


def _store_files(
    queries: Sequence[Query], path: Path, store: Path
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Decode query files into a new store, as the searched store's videos were decoded.

    Args:
        queries: Queries; ids are ignored. Only the frames of a segment are stored.
        path: Path of the new store.
        store: Path of the searched store.

    Returns:
        By query name the videos in the new store, and the reasons for those that failed.
    """
    settings = (ClipStore(store).settings("frames") if store.is_dir() else None) or {}
    how = _STORED | settings
    codec, digest = Codec(how["codec"], quality=how["quality"]), fingerprint(settings)
    target = ClipStore.create(path)
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    try:
        for number, query in enumerate(query for query in queries if query.is_file):
            video = Video(id=f"query{number}", path=Path(query.video).absolute().as_posix())
            job = FrameJob(
                path, Path("/"), video, how["short_side"], codec, digest, segment=query.segment
            )
            entry = store_frames(job)
            if entry.reason is None:
                # The index accepts no path that is not UTF-8, and nothing reads this one.
                target.index.put(replace(entry, path=video.id))
                entries[query.name] = entry
            else:
                failures[query.name] = entry.reason
    finally:
        close_decoder()
        target.index.close()
    return entries, failures
