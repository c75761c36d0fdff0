"""Search: embed queries, and list what is nearest to them in a store."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, EmbeddingCache
from slic.config import Feature
from slic.datasets.segments import windows_of
from slic.embed.cached import cached_embeddings, check_feature, evaluation_protocol
from slic.errors import InputError
from slic.neighbours.saved_index import unit_rows
from slic.page import check_target
from slic.runs import Run
from slic.search.gallery import write_gallery
from slic.search.nearest import moment_of, nearest_moments
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
    """Find the videos of a store, or moments in them, nearest to queries by cosine similarity.

    The search is exact; from a million rows on it uses an index of measured recall.

    Args:
        run: The run whose latest checkpoint embeds videos.
        queries: Video files, or ids of the store, with or without a segment in seconds:
            `talk.mp4#t=12,14`.
        k: Number of results for each query.
        store: Path of the clip store; default: the run's.
        clips: clips whose embeddings are averaged per video or window; default: the run's.
        feature: `backbone` or `projection`; default: the run's setting.
        window: Length of windows to search, such as `2s`; default: whole videos.
        stride: Time from one window to the next; default: half a window.
        html: Path of a page that shows the results; default: none.
        device: Device that computes embeddings.
        workers: Processes that read clips for it; default: by device.
        say: Called with each message for the user.

    Returns:
        The object of `slic search --json`, described in docs/search.md.

    Raises:
        InputError: Unusable input, or one of its subclasses.
        DiskError: The page cannot be written.
    """
    if k < 1:
        raise InputError(f"--k {k}: must be at least 1")
    feature = feature or run.settings.retrieval_feature
    check_feature(run, feature)
    windows, protocol = windows_of(window, stride), evaluation_protocol(run.settings, clips)
    # Its suffix is checked, as `--html *.mp4` would overwrite the first video with the page.
    page = None if html is None else check_target("--html", Path(html))
    path = run.store if store is None else Path(store)
    reading: dict[str, Any] = {"device": device, "workers": workers}
    where: dict[str, Any] = {"store": store, "split": None, "say": say, **reading}
    in_windows = replace(protocol, windows=windows)
    embeddings = partial(cached_embeddings, run, protocol=in_windows, **where)
    with tempfile.TemporaryDirectory(prefix="slic-search-") as folder:
        # Queries are checked before a whole store is embedded for them.
        cache = None if path.is_dir() else embeddings()[0]
        ids = ClipStore(path).ids if cache is None else list(dict.fromkeys(cache.videos.tolist()))
        asked = read_queries(queries, ids, path)
        sources = Sources(path, Path(folder), asked, windowed=windows is not None)
        rows: list[dict[str, Any]] = []
        if sources.queries:
            cache = embeddings()[0] if cache is None else cache
            units, moments = sources.embed(run, cache, feature, protocol=protocol, **reading)
            nearest = nearest_moments(
                units, moments, unit_rows(cache, feature, say=say), cache, k=k
            )
            rows = _results(sources.queries, nearest, cache, path)
        result = {
            "run": str(run.path),
            "store": str(path),
            "videos": len(ids),
            "windows": len(cache.ids) if cache is not None and windows else None,
            "feature": feature,
            "clips": protocol.clips,
            "window": windows.length if windows else None,
            "stride": windows.stride if windows else None,
            "cache": None if cache is None else str(cache.path),
            "results": rows,
            "failures": [{"query": q, "reason": why} for q, why in sources.failures.items()],
        }
        if page is not None:
            result["html"] = write_gallery(page, result, sources, run=run, cache=cache)
    return result


def _results(
    queries: Sequence[Query],
    nearest: Sequence[Sequence[tuple[int, float]]],
    cache: EmbeddingCache,
    store: Path,
) -> list[dict[str, Any]]:
    paths = dict(ClipStore(store).index.rows("id", "path")) if store.is_dir() else {}
    results = []
    for query, answers in zip(queries, nearest, strict=True):
        for rank, (row, similarity) in enumerate(answers, start=1):
            moment = moment_of(cache, row)
            timed = cache.places is not None
            results.append(
                {
                    "query": query.name,
                    "rank": rank,
                    "id": moment.video,
                    "label": None if cache.labels is None else str(cache.labels[row]) or None,
                    "similarity": similarity,
                    "path": paths.get(moment.video, moment.video),
                    "start": moment.start if timed else None,
                    "end": moment.end if timed else None,
                }
            )
    return results
