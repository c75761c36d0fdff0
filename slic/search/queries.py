"""What is searched for: video files, ids of the store, and segments of either."""

import difflib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slic.cache import ClipStore, Codec, Entry
from slic.cache.clipstore import fingerprint
from slic.clips.windows import Section
from slic.datasets.segments import Segment, ends_before, known_fps, named_segment
from slic.datasets.videos import Video
from slic.errors import InputError
from slic.prep.frames_video import FrameJob, close_decoder, store_frames

MOST_COMPARED = 10_000  # ids, with a name that is none
SHORT_SIDE = 128  # of a query, where the store does not say


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        name: as it was given.
        video: the file, or the id.
        is_file: which of the two.
        segment: the part that is meant, or None.
    """

    name: str
    video: str
    is_file: bool
    segment: Segment | None


def read_queries(names: Sequence[str], ids: Collection[str], store: Path) -> list[Query]:
    """What queries mean, each taken once; what is a file is taken for one.

    Args:
        names: video files or ids, each perhaps followed by a segment such as `#t=12,14`. A file or
            id that is so named itself is meant whole.
        ids: of the store.
        store: its path, for messages.

    Raises:
        InputError: neither file nor id, or no segment.
    """
    known = set(ids)
    found = []
    for name in dict.fromkeys(names):
        video, segment = name, None
        if not (os.path.isfile(name) or name in known):
            if not (os.path.isfile(base := name.rpartition("#t=")[0]) or base in known):
                raise InputError(
                    f"{name!r}: neither a video file nor the id of a video in"
                    f" {store}{_meant(name, ids)}"
                )
            video, segment = named_segment(name)
        found.append(Query(name, video, os.path.isfile(video), segment))
    return found


def _meant(name: str, ids: Collection[str]) -> str:
    """Which id may be meant: one that ends so, or one that looks like it."""
    ends = (video for video in ids if video.endswith(f"/{name}"))
    alike = difflib.get_close_matches(name, list(ids)[:MOST_COMPARED], n=1)
    near = next(ends, None) or next(iter(alike), None)
    return f" (did you mean {near}?)" if near else ""


def stored_files(
    queries: Sequence[Query], path: Path, store: Path
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Keep the files that are queries in a store with the parameters of the one searched.

    Args:
        queries: of which ids are left out. Of a segment, only its frames are stored.
        path: of the new store.
        store: the one searched; it may be gone.

    Returns:
        Of each query's name its video in the new store, and of those that failed the reason.
    """
    settings = (ClipStore(store).settings("frames") if store.is_dir() else None) or {}
    side, codec = settings.get("short_side", SHORT_SIDE), settings.get("codec", "jpeg")
    coding, digest = Codec(codec, quality=settings.get("quality", 90)), fingerprint(settings)
    target = ClipStore.create(path)
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    try:
        for number, query in enumerate(query for query in queries if query.is_file):
            # Its name may be any; the id is ours.
            video = Video(id=f"query{number}", path=Path(query.video).absolute().as_posix())
            job = FrameJob(path, Path("/"), video, side, coding, digest, segment=query.segment)
            entry = store_frames(job)
            if entry.reason is None:
                # An index takes no path that is not UTF-8; nothing reads this one.
                target.index.put(replace(entry, path=video.id))
                entries[query.name] = entry
            else:
                failures[query.name] = entry.reason
    finally:
        close_decoder()
        target.index.close()
    return entries, failures


def section_of(query: Query, entry: Entry) -> Section:
    """The frames of a stored video that a query means.

    Raises:
        InputError: the video ends before the segment begins.
    """
    length = entry.frames or 0
    if query.segment is None:
        return Section(entry.id, length, 0, length)
    first, count = query.segment.frames(known_fps(entry.fps))
    if first >= length:
        raise InputError(f"{query.name!r}: {ends_before(query.segment, length, entry.fps)}")
    room = length - first
    return Section(entry.id, length, first, room if count is None else min(count, room))
