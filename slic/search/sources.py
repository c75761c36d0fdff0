"""Where the frames of queries are read, and their embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.clips.windows import Section
from slic.config import Feature
from slic.datasets.segments import known_fps
from slic.embed.cached import embed_entries
from slic.embed.embedding import Protocol
from slic.errors import CacheError, InputError
from slic.neighbours.exact import unit_float32
from slic.runs import Run
from slic.search.nearest import Asked, Place
from slic.search.queries import Query, section_of, stored_files


class Sources:
    """The frames of queries: files are decoded into a store of their own.

    Attributes:
        queries: those that can be read.
        files: of each file's name its video in the store at `own`, cut to its segment.
        stored: of each id's name its video in the store that is searched; empty if that is gone.
        failures: of each query that cannot be read the reason.

    Args:
        store: the one that is searched; it may be gone.
        own: path of the store for files.
        queries: all of them.
        windowed: windows are searched.

    Raises:
        InputError: a segment that the video does not have, or frames of a store that is gone.
    """

    def __init__(self, store: Path, own: Path, queries: list[Query], *, windowed: bool) -> None:
        self.store, self.own, self._windowed = store, own, windowed
        self.stored = self._entries(queries)
        self._parts = {
            query.name: section_of(query, self.stored[query.name])
            for query in queries
            if self._is_part(query)
        }
        self.files, self.failures = stored_files(queries, own, store)
        self.queries = [query for query in queries if query.name not in self.failures]

    def section(self, query: Query) -> Section | None:
        """The frames that a query for an id means, if not simply the video as it is cached."""
        return self._parts.get(query.name)

    def embedded(
        self, run: Run, cache: EmbeddingCache, kind: Feature, *, protocol: Protocol, **reading: Any
    ) -> Asked:
        """Embeddings of the queries that can be read; of videos in the cache, those.

        Args:
            run: whose encoder.
            cache: the one that is searched.
            kind: which embedding.
            protocol: how each query is embedded.
            **reading: `device` and `workers`.

        Raises:
            CacheError: a video of the store is not in its cache.
        """
        cached = cache.backbone if kind == "backbone" else cache.projection
        at = {video: row for row, video in enumerate(cache.ids.tolist())}
        whole = [q for q in self.queries if not (q.is_file or self._is_part(q))]
        for query in whole:
            if query.video not in at:
                raise CacheError(f"{cache.path}: holds no video {query.video!r}")
        found = {query.name: cached[at[query.video]] for query in whole}
        for path, sections in ((self.own, self.files), (self.store, self._parts)):
            found |= _embedded(run, path, sections, kind, protocol=protocol, **reading)
        rows = unit_float32([found[query.name] for query in self.queries], name="queries")
        return Asked(rows, [self._place(query) for query in self.queries])

    def _entries(self, queries: list[Query]) -> dict[str, Entry]:
        ids = [query for query in queries if not query.is_file]
        if self.store.is_dir():
            store = ClipStore(self.store)
            return {query.name: store.entry(query.video) for query in ids}
        missing = [query.name for query in ids if self._is_part(query)]
        if missing:
            raise InputError(
                f"{missing[0]!r}: its frames are needed, and {self.store} is not there; give a"
                " video file"
            )
        return {}

    def _is_part(self, query: Query) -> bool:
        """Whether a query for an id has frames to be embedded anew."""
        return not query.is_file and (self._windowed or query.segment is not None)

    def _place(self, query: Query) -> Place | None:
        if query.is_file:
            return None
        section = self._parts.get(query.name)
        if section is None or not self._windowed:
            return Place(query.video, 0.0, np.inf)
        fps = known_fps(self.stored[query.name].fps)
        return Place(query.video, section.first / fps, (section.first + section.count) / fps)


def _embedded(
    run: Run, path: Path, sections: dict[str, Any], kind: Feature, **how: Any
) -> dict[str, NDArray[np.float32]]:
    if not sections:
        return {}
    store = ClipStore(path)
    backbone, projection = embed_entries(run, store, list(sections.values()), **how)
    store.index.close()
    rows = backbone if kind == "backbone" else projection
    return dict(zip(sections, rows, strict=True))
