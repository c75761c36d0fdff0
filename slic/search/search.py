"""Search: what is asked for is embedded, and its nearest in a store are listed."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, EmbeddingCache
from slic.config import Feature
from slic.datasets.segments import windows_of
from slic.embed.cached import cached_embeddings, check_feature, evaluation_protocol
from slic.errors import InputError
from slic.neighbours.kept import unit_rows
from slic.page import PAGES
from slic.runs import Run
from slic.runtime.disk import check_writable
from slic.search.gallery import write_gallery
from slic.search.nearest import nearest_places, place_of
from slic.search.queries import Query, read_queries
from slic.search.sources import Sources


def search(
    run: Run,
    queries: Sequence[str],
    *,
    k: int = 10,
    store: str | None = None,
    clips: int | None = None,
    feature: Feature | None = None,
    window: str | None = None,
    stride: str | None = None,
    html: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Find the nearest videos of a store, or places in them, by cosine similarity.

    Exactly, but of a million rows and more by an index of measured recall.

    Args:
        run: whose latest checkpoint.
        queries: video files, or ids of the store; what is a file is taken for one. Each may name
            a segment in seconds: `talk.mp4#t=12,14`.
        k: how many neighbours; a store of fewer gives all.
        store: another store than the run's.
        clips: averaged of each video or window; the run's setting if None.
        feature: which embedding; the run's setting if None.
        window: long videos are searched window by window, each so long, such as `2s`.
        stride: from one window to the next; half of it if None.
        html: a file for a page that shows what was found.
        device, workers: for embedding.
        say: takes lines meant for the user.

    Returns:
        What `slic search --json` prints: run, store, videos, windows (their number), feature,
        clips, window and stride (seconds), cache, results: of each query k rows of query, rank
        (from 1), id, label, similarity, path (inside the data set), start and end (seconds);
        failures: of each query that could not be read its reason; and html, if asked for. What
        is not known is None.

    Raises:
        InputError and its kinds: unusable input, such as a query that is neither file nor id.
        DiskError: the page cannot be written.
    """
    if k < 1:
        raise InputError(f"--k {k}: must be at least 1")
    kind = feature or run.settings.retrieval_feature
    check_feature(run, kind)
    windows = windows_of(window, stride)
    whole = evaluation_protocol(run.settings, clips)
    reading: dict[str, Any] = {"device": device, "workers": workers}
    target = None if html is None else _writable(Path(html))
    path = run.store if store is None else Path(store)

    def embeddings() -> EmbeddingCache:
        protocol = replace(whole, windows=windows)
        how = {"protocol": protocol, "split": None, "say": say, **reading}
        return cached_embeddings(run, store=store, **how)[0]

    with tempfile.TemporaryDirectory(prefix="slic-search-") as folder:
        # Whatever is wrong with the queries is found before a whole store is embedded for them.
        cache = None if path.is_dir() else embeddings()
        ids = ClipStore(path).ids if cache is None else _videos(cache)
        wanted = read_queries(queries, ids, path)
        sources = Sources(path, Path(folder) / "queries.zarr", wanted, windowed=windows is not None)
        found: list[list[tuple[int, float]]] = []
        if sources.queries:
            cache = embeddings() if cache is None else cache
            asked = sources.embedded(run, cache, kind, protocol=whole, **reading)
            found = nearest_places(asked, unit_rows(cache, kind, say=say), cache, k=k)
        result = {
            "run": str(run.path),
            "store": str(path),
            "videos": len(ids),
            "windows": len(cache.ids) if cache is not None and windows else None,
            "feature": kind,
            "clips": whole.clips,
            "window": windows.length if windows else None,
            "stride": windows.stride if windows else None,
            "cache": None if cache is None else str(cache.path),
            "results": [] if cache is None else _results(sources.queries, found, cache, path),
            "failures": [{"query": q, "reason": why} for q, why in sources.failures.items()],
        }
        if target is not None:
            result["html"] = write_gallery(target, result, sources, run=run, cache=cache)
    return result


def _writable(html: Path) -> Path:
    if html.is_dir():
        raise InputError(f"--html {html}: is a folder; give a file, such as found.html")
    # As in `--html *.mp4`, where the page would take the place of the first.
    if html.suffix.lower() not in PAGES:
        raise InputError(f"--html {html}: is named like no page; give a file such as found.html")
    check_writable(html.absolute().parent)
    return html


def _videos(cache: EmbeddingCache) -> list[str]:
    ids = cache.ids if cache.places is None else cache.places.of
    return list(dict.fromkeys(ids.tolist()))


def _results(
    queries: Sequence[Query],
    found: Sequence[Sequence[tuple[int, float]]],
    cache: EmbeddingCache,
    store: Path,
) -> list[dict[str, Any]]:
    # Of a store that is gone, no path is known.
    paths = dict(ClipStore(store).index.rows("id", "path")) if store.is_dir() else {}
    results = []
    for query, answers in zip(queries, found, strict=True):
        for rank, (row, similarity) in enumerate(answers, start=1):
            place = place_of(cache, row)
            label = None if cache.labels is None else str(cache.labels[row]) or None
            timed = cache.places is not None
            results.append(
                {
                    "query": query.name,
                    "rank": rank,
                    "id": place.video,
                    "label": label,
                    "similarity": similarity,
                    "path": paths.get(place.video, place.video),
                    "start": place.start if timed else None,
                    "end": place.end if timed else None,
                }
            )
    return results
