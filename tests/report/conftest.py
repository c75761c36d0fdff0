"""Stores and caches of any content, for the parts of a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slic.cache import ClipStore, Codec, EmbeddingCache, Entry, video_key
from slic.cache.embeddings import write_embeddings

LOSSLESS = Codec("zstd", quality=0)


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., ClipStore]:
    """`store_of({id: frames (T, H, W, 3)}, fps=25.0)`: a store of these frames, lossless."""

    def make(videos: Mapping[str, np.ndarray], *, fps: float | None = 25.0) -> ClipStore:
        store = ClipStore.create(tmp_path / f"made{len(list(tmp_path.iterdir()))}.zarr")
        for video, frames in videos.items():
            with store.write(video, view="frames", codec=LOSSLESS) as writer:
                for frame in frames:
                    writer.append(frame)
                writer.close({"id": video, "fps": fps, "source": "digest"})
                store.publish(writer, video, view="frames")
            entry = Entry(video, video_key(video), video, None, None, None, None, None)
            size = dict(zip(("frames", "height", "width"), frames.shape[:3], strict=True))
            store.index.put(replace(entry, **size, fps=fps, source_digest="digest"))
        return store

    return make


@pytest.fixture
def cache_of(tmp_path: Path) -> Callable[..., EmbeddingCache]:
    """`cache_of(rows (N, D), labels=, parts=)`: a cache of videos `v0`, `v1`, ..."""

    def make(
        rows: np.ndarray,
        labels: Sequence[str | None] | None = None,
        parts: Sequence[str | None] | None = None,
        *,
        ids: Sequence[str] | None = None,
    ) -> EmbeddingCache:
        path = tmp_path / f"made{len(list(tmp_path.iterdir()))}.h5"
        nothing: list[str | None] = [None] * len(rows)
        write_embeddings(
            path,
            ids or [f"v{number}" for number in range(len(rows))],
            backbone=np.asarray(rows, dtype=np.float32),
            projection=np.asarray(rows, dtype=np.float32)[:, ::-1],
            labels=labels or nothing,
            splits={1: parts or nothing},
            attributes={
                "store": "made",
                "store_digest": "0000abcd",
                "checkpoint": "e00003.89abcdef",
                "protocol": "2clips-4x1-16px",
                "clips": 2,
            },
        )
        return EmbeddingCache(path)

    return make
