"""What was found, as a page to look at."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slic import __version__
from slic.cache import ClipStore, EmbeddingCache
from slic.datasets.segments import known_fps, plain_seconds, window_name
from slic.page import write_page
from slic.page.thumbnails import STILLS, STRIPS, thumbnails
from slic.page.videos import Videos
from slic.runs import Run
from slic.runtime.progress import progress
from slic.runtime.text import counted
from slic.search.queries import Query
from slic.search.sources import Sources

MOST_SHOWN = 2_000  # answers, so that a page stays small

Found = dict[str, Any]


def write_gallery(
    path: Path, result: Found, sources: Sources, *, run: Run, cache: EmbeddingCache | None
) -> str:
    """Write a page of queries and what was found for each; returns its path.

    Args:
        path: of the page.
        result: as `search` returns it.
        sources: of the queries' pictures.
        run: whose encoder it was.
        cache: what was searched; None where no query could be read.

    Raises:
        DiskError: it cannot be written.
    """
    report, videos = gallery_report(result, sources, run=run, cache=cache)
    shown = list(range(len(videos.ids)))
    with progress(2 * len(shown), "pictures", unit="pictures") as advance:
        images, stills, remarks = thumbnails(videos.scenes, strips=shown, advance=advance)
    report["videos"]["still"] = stills
    report["remarks"] += remarks
    write_page(path, report, images)
    return str(path)


def gallery_report(
    result: Found, sources: Sources, *, run: Run, cache: EmbeddingCache | None
) -> tuple[Found, Videos]:
    """The page's content, but for its pictures, and the videos that it shows."""
    store = ClipStore(sources.store) if sources.store.is_dir() else None
    entries = [] if store is None else store.entries()
    split = run.settings.split
    videos = Videos(store, entries, split=split, clusters={}, cache=cache)
    rates = {entry.id: known_fps(entry.fps) for entry in entries}
    queries = sources.queries[:MOST_SHOWN]
    each = max(1, MOST_SHOWN // max(1, len(queries)))
    answers = defaultdict(list)
    for answer in result["results"]:
        if answer["rank"] <= each:
            answers[answer["query"]].append(answer)
    names = _names([*(query.name for query in queries), *sources.failures])
    rows = [_row(query, names, answers[query.name], sources, videos, rates) for query in queries]
    failures = result["failures"][:MOST_SHOWN]
    remarks = [f"{names[f['query']]}: {f['reason']}" for f in failures]
    found, shown = len(result["results"]), sum(len(row["neighbours"]) for row in rows)
    if shown < found:
        remarks.append(f"The page shows {shown:,} of {found:,} answers, the best of each query.")
    marks = [other["right"] for row in rows for other in row["neighbours"]]
    group = {"title": None, "note": None, "rows": rows}
    note = "The most similar first; similarity is the cosine of embeddings."
    view = {"key": "queries", "title": "Queries", "note": note, "groups": [group]}
    report = {
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
    return report, videos


def _names(queries: Sequence[str]) -> dict[str, str]:
    """What queries are called: files without their folders, unless two would be called alike."""
    short = {query: os.path.basename(query) or query for query in queries}
    counts = Counter(short.values())
    return {query: name if counts[name] == 1 else query for query, name in short.items()}


def _row(
    query: Query,
    names: dict[str, str],
    answers: Sequence[Found],
    sources: Sources,
    videos: Videos,
    rates: dict[str, float],
) -> Found:
    section = sources.section(query)
    if query.is_file:
        own = videos.row_of_file(
            names[query.name], ClipStore(sources.own), sources.files[query.name]
        )
    elif section is None or query.segment is None:
        own = videos.row_of(query.video)
    else:
        own = videos.row_of(query.video, section.first, section.first + section.count)
    entry = sources.stored.get(query.name)
    label = entry.label if entry else None
    neighbours = [
        {
            "video": _row_of(answer, videos, rates),
            "similarity": answer["similarity"],
            "right": answer["label"] == label if label and answer["label"] else None,
        }
        for answer in answers
    ]
    return {"query": own, "neighbours": neighbours}


def _row_of(answer: Found, videos: Videos, rates: dict[str, float]) -> int:
    video, start, end = answer["id"], answer["start"], answer["end"]
    if start is None:
        return videos.row_of(video)
    fps = rates.get(video)
    if fps is None:  # where the store is gone, a window is known by its name alone
        return videos.row_of(window_name(video, start, end))
    return videos.row_of(video, round(start * fps), round(end * fps))


def _facts(result: Found) -> list[list[str]]:
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
