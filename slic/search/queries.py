"""Parse queries: video files, ids of stored videos, and segments of either."""

import difflib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from slic.datasets.segments import Segment, named_segment
from slic.errors import InputError

MOST_COMPARED = 10_000  # ids that are compared with a mistyped one


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        name: The query as given.
        video: Path of the file, or id of the stored video.
        is_file: Which of the two.
        segment: Part of the video; None for all of it.
    """

    name: str
    video: str
    is_file: bool
    segment: Segment | None


def read_queries(names: Sequence[str], ids: Collection[str], store: Path) -> list[Query]:
    """Parse queries, without repeats; a name that is a file and an id means the file.

    Args:
        names: Video files or ids, with or without a segment such as `#t=12,14`. If a file or id
            itself has such a name, all of it is meant.
        ids: Ids of the stored videos.
        store: Path of the store, for messages.

    Raises:
        InputError: A query is neither a file nor an id, or its segment cannot be parsed.
    """
    known = set(ids)
    queries = []
    for name in dict.fromkeys(names):
        video, segment = name, None
        if not (os.path.isfile(name) or name in known):
            base = name.rpartition("#t=")[0]
            if not (os.path.isfile(base) or base in known):
                raise InputError(
                    f"{name!r}: neither a video file nor the id of a video in"
                    f" {store}{_suggestion(name, ids)}"
                )
            video, segment = named_segment(name)
        queries.append(Query(name, video, os.path.isfile(video), segment))
    return queries


def _suggestion(name: str, ids: Collection[str]) -> str:
    """Suggest the id that ends with the name, or the most similar one."""
    ends = (video for video in ids if video.endswith(f"/{name}"))
    similar = difflib.get_close_matches(name, list(ids)[:MOST_COMPARED], n=1)
    near = next(ends, None) or next(iter(similar), None)
    return f" (did you mean {near}?)" if near else ""
