"""`slic search`: the videos of a store that are most like a video file, or like one of its own."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, EmbeddingCache, Entry
from slic.cache.clipstore import fingerprint
from slic.config import Feature
from slic.embed import FloatRows
from slic.errors import InputError
from slic.eval.cached import (
    cached_embeddings,
    check_feature,
    embed_entries,
    evaluation_protocol,
)
from slic.neighbours import nearest
from slic.prep.frames_video import FrameJob, close_decoder, store_frames
from slic.runs import Run
from slic.videos import Video

SHORT_SIDE = 128  # of a query, where the store does not say


@dataclass(frozen=True)
class Queries:
    """What is searched for: names `(Q,)`, embeddings `(Q, D)`, and which row each one is itself.

    `own` is the row of the cache that a query is, or -1 for a file.
    """

    names: list[str]
    rows: FloatRows
    own: list[int]


def search(
    run: Run,
    queries: Sequence[str],
    *,
    k: int = 10,
    store: str | None = None,
    clips: int | None = None,
    feature: Feature | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Find the nearest videos of a store, by cosine similarity, exactly.

    Args:
        run: whose latest checkpoint.
        queries: video files, or ids of the store; what is a file is taken for one.
        k: how many neighbours; a store of fewer videos gives all.
        store: another store than the run's.
        clips: evenly spaced clips a video; the run's setting if None.
        feature: `backbone` or `projection`; the run's setting if None.
        device, workers: for embeddings that are not cached yet, and for the queries.
        say: takes lines meant for the user.

    Returns:
        run, store, videos, feature, clips, cache, results: of each query k rows of query, rank
        (from 1), id, label, similarity and path (inside the data set), and failures: of each
        query that could not be read its reason.

    Raises:
        InputError and its kinds: unusable input, such as a query that is neither file nor id.
    """
    if k < 1:
        raise InputError(f"--k {k}: must be at least 1")
    kind = feature or run.settings.retrieval_feature
    check_feature(run, kind)
    protocol = evaluation_protocol(run.settings, clips)
    how: dict[str, Any] = {"protocol": protocol, "device": device, "workers": workers}
    path = run.store if store is None else Path(store)
    files = [query for query in dict.fromkeys(queries) if Path(query).is_file()]
    with tempfile.TemporaryDirectory(prefix="slic-search-") as folder:
        # Whatever is wrong with the queries is found before a whole store is embedded for them.
        if path.is_dir():
            _check_queries(queries, files, ClipStore(path).ids, path)
        own = Path(folder) / "queries.zarr"
        entries, failures = _prepared(files, own, path)
        asked = [query for query in queries if query not in failures]
        cache = None
        found: dict[str, NDArray[np.float32]] = {}
        if asked:
            cache, path = cached_embeddings(run, store=store, split=None, say=say, **how)
            _check_queries(queries, files, cache.ids.tolist(), path)
            found = _embedded(run, own, entries, kind, how)
    return {
        "run": str(run.path),
        "store": str(path),
        "videos": 0 if cache is None else len(cache.ids),
        "feature": kind,
        "clips": protocol.clips,
        "cache": None if cache is None else str(cache.path),
        "results": _results(_queries(asked, found, cache, kind), cache, kind, k, _paths(path))
        if cache is not None
        else [],
        "failures": [{"query": query, "reason": reason} for query, reason in failures.items()],
    }


def _check_queries(
    queries: Sequence[str], files: Sequence[str], ids: Sequence[str], store: Path
) -> None:
    unknown = sorted(set(queries) - set(files) - set(ids))
    if unknown:
        raise InputError(
            f"{unknown[0]!r}: neither a video file nor the id of a video in {store};"
            " `slic prep info` tells what it holds"
        )


def _prepared(
    files: Sequence[str], path: Path, store: Path
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries of video files in a store with the parameters of the one searched, and failures."""
    settings = (ClipStore(store).settings("frames") if store.is_dir() else None) or {}
    side, codec = settings.get("short_side", SHORT_SIDE), settings.get("codec", "jpeg")
    coding, digest = Codec(codec, quality=settings.get("quality", 90)), fingerprint(settings)
    target = ClipStore.create(path)
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    try:
        for number, file in enumerate(files):
            # Its name may be any; the id is ours.
            video = Video(id=f"query{number}", path=Path(file).absolute().as_posix())
            entry = store_frames(FrameJob(Path("/"), path, video, side, coding, digest))
            if entry.reason is None:
                target.index.put(entry)
                entries[file] = entry
            else:
                failures[file] = entry.reason
    finally:
        close_decoder()
        target.index.close()
    return entries, failures


def _embedded(
    run: Run, path: Path, entries: dict[str, Entry], kind: Feature, how: dict[str, Any]
) -> dict[str, NDArray[np.float32]]:
    """Embeddings of prepared video files by name."""
    if not entries:
        return {}
    queries = ClipStore(path)
    backbone, projection = embed_entries(run, queries, list(entries.values()), **how)
    queries.index.close()
    rows = backbone if kind == "backbone" else projection
    return dict(zip(entries, rows, strict=True))


def _queries(
    names: Sequence[str],
    files: dict[str, NDArray[np.float32]],
    cache: EmbeddingCache,
    kind: Feature,
) -> Queries:
    rows = cache.backbone if kind == "backbone" else cache.projection
    places = {video: row for row, video in enumerate(cache.ids.tolist())}
    own = [-1 if name in files else places[name] for name in names]
    asked = [files[name] if name in files else rows[places[name]] for name in names]
    return Queries(list(names), np.array(asked, dtype=np.float32), own)


def _results(
    asked: Queries, cache: EmbeddingCache, kind: Feature, k: int, paths: dict[str, str]
) -> list[dict[str, Any]]:
    rows = cache.backbone if kind == "backbone" else cache.projection
    # One more, as a video of the store finds itself.
    similarity, found = nearest(asked.rows, rows, k=k + 1)
    results = []
    for query, own, values, places in zip(
        asked.names, asked.own, similarity.tolist(), found.tolist(), strict=True
    ):
        others = [pair for pair in zip(places, values, strict=True) if pair[0] != own][:k]
        for rank, (place, value) in enumerate(others, start=1):
            video = str(cache.ids[place])
            label = None if cache.labels is None else str(cache.labels[place]) or None
            results.append(
                {
                    "query": query,
                    "rank": rank,
                    "id": video,
                    "label": label,
                    "similarity": value,
                    "path": paths.get(video, video),
                }
            )
    return results


def _paths(store: Path) -> dict[str, str]:
    """Path of each video inside its data set; of a store that is gone, nothing is known."""
    return dict(ClipStore(store).index.rows("id", "path")) if store.is_dir() else {}
