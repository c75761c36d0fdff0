"""The page of search results."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slic import __version__
from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.datasets.segments import known_fps, plain_seconds, window_name
from slic.page import write_page
from slic.page.thumbnails import STILLS, STRIPS, thumbnails
from slic.page.videos import Videos
from slic.runs import Run
from slic.runtime.progress import progress
from slic.runtime.text import counted
from slic.search.queries import Query
from slic.search.sources import Sources

MOST_RESULTS = 2_000  # on a page, so that it stays small

Json = dict[str, Any]


def write_gallery(
    path: Path, result: Json, sources: Sources, *, run: Run, cache: EmbeddingCache | None
) -> str:
    """Write a page of queries and their results, and return its path.

    Args:
        path: Path of the page.
        result: Result of `search`.
        sources: Frames of the queries, for their pictures.
        run: The run whose encoder was used.
        cache: The searched cache; None if no query could be read.

    Raises:
        DiskError: The page cannot be written.
    """
    content, videos = page_content(result, sources, run=run, cache=cache)
    rows = list(range(len(videos.ids)))
    with progress(2 * len(rows), "pictures", unit="pictures") as advance:
        images, stills, remarks = thumbnails(videos.scenes, strips=rows, advance=advance)
    content["videos"]["still"] = stills
    content["remarks"] += remarks
    write_page(path, content, images)
    return str(path)


def page_content(
    result: Json, sources: Sources, *, run: Run, cache: EmbeddingCache | None
) -> tuple[Json, Videos]:
    """Return the page's content without pictures, and the videos that it refers to."""
    store = ClipStore(sources.store) if sources.store.is_dir() else None
    entries = [] if store is None else store.entries()
    videos = Videos(store, entries, split=run.settings.split, clusters={}, cache=cache)
    rates = {entry.id: known_fps(entry.fps) for entry in entries}
    queries = sources.queries[:MOST_RESULTS]
    results_each = max(1, MOST_RESULTS // max(1, len(queries)))
    answers = defaultdict(list)
    for answer in result["results"]:
        if answer["rank"] <= results_each:
            answers[answer["query"]].append(answer)
    names = _short_names([*(query.name for query in queries), *sources.failures])
    rows: list[Json] = [
        {
            "query": _query_row(query, names[query.name], sources, videos),
            "neighbours": [
                {
                    "video": _answer_row(answer, videos, rates),
                    "similarity": answer["similarity"],
                    "right": _is_right(answer, sources.stored.get(query.name)),
                }
                for answer in answers[query.name]
            ],
        }
        for query in queries
    ]
    failures = result["failures"][:MOST_RESULTS]
    remarks = [f"{names[each['query']]}: {each['reason']}" for each in failures]
    count, on_page = len(result["results"]), sum(map(len, answers.values()))
    if on_page < count:
        remarks.append(f"The page shows {on_page:,} of {count:,} results, the best of each query.")
    marks = [other["right"] for row in rows for other in row["neighbours"]]
    view = {
        "key": "queries",
        "title": "Queries",
        "note": "The most similar first; similarity is the cosine of embeddings.",
        "groups": [{"title": None, "note": None, "rows": rows}],
    }
    content = {
        "kind": "search",
        "title": f"Search in {sources.store.name}",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "slic": __version__,
        "remarks": remarks,
        "facts": _facts(result),
        "videos": videos.table(),
        "stills": STILLS,
        "strips": STRIPS,
        "gallery": {
            "feature": result["feature"],
            "clips": result["clips"],
            "labelled": any(mark is not None for mark in marks),
            "queries": len(rows),
            "among": result["videos"] if result["windows"] is None else result["windows"],
            "views": [view],
        },
    }
    return content, videos


def _short_names(queries: Sequence[str]) -> dict[str, str]:
    """Name files without their folders, unless two would have the same name."""
    short = {query: os.path.basename(query) or query for query in queries}
    counts = Counter(short.values())
    return {query: name if counts[name] == 1 else query for query, name in short.items()}


def _query_row(query: Query, name: str, sources: Sources, videos: Videos) -> int:
    if query.is_file:
        return videos.row_of_file(name, ClipStore(sources.own), sources.files[query.name])
    if query.segment is None:
        return videos.row_of(query.video)
    section = sources.sections[query.name]
    return videos.row_of(query.video, section.first, section.first + section.count)


def _answer_row(answer: Json, videos: Videos, rates: dict[str, float]) -> int:
    video, start, end = answer["id"], answer["start"], answer["end"]
    if start is None:
        return videos.row_of(video)
    fps = rates.get(video)
    if fps is None:  # the store is gone, and with it the frames: the row has a name only
        return videos.row_of(window_name(video, start, end))
    return videos.row_of(video, round(start * fps), round(end * fps))


def _is_right(answer: Json, query: Entry | None) -> bool | None:
    """Return whether a result has the query's label; None if either has none."""
    if query is None or not query.label or not answer["label"]:
        return None
    return answer["label"] == query.label


def _facts(result: Json) -> list[list[str]]:
    facts = {
        "run": Path(result["run"]).name,
        "store": Path(result["store"]).name,
        "videos": f"{result['videos']:,}",
        "embedding": f"{result['feature']}, mean of {counted(result['clips'], 'clip')}",
    }
    if result["windows"] is not None:
        length, stride = plain_seconds(result["window"]), plain_seconds(result["stride"])
        facts["windows"] = f"{result['windows']:,} of {length} s, every {stride} s"
    return [[name, value] for name, value in facts.items()]
