"""Read a damaged index and lost parameters as far as possible, and write the index again."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from slic.cache import Entry, video_key
from slic.cache.flow_levels import DEFAULT_BOUND
from slic.cache.index import Index
from slic.cache.shards import ArrayReader
from slic.errors import DamagedChunk, StoreError
from slic.runtime.disk import disk_errors_at, sync
from slic.upkeep.verify.video import Parameters, matches

SIDE_FILES = ("index.sqlite-journal", "index.sqlite-wal", "index.sqlite-shm")
DEFAULT_SIDE = 128


@dataclass
class IndexState:
    """What an index holds.

    Attributes:
        entries: the sound rows, by key.
        broken: ids of the damaged rows, as far as they can be read.
        problem: what is wrong with the file itself, or None.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.problem or self.broken)


def read_index(file: Path) -> IndexState:
    """Read every row of an index, whatever its state.

    Raises:
        DiskError: it is locked, or the system refuses to read it.
    """
    if not file.is_file():
        return IndexState(problem="is missing")
    state, index = IndexState(), Index(file)
    try:
        for entry, sound in index.salvage():
            if sound and entry.key == video_key(entry.id):
                state.entries[entry.key] = entry
            else:
                state.broken.append(ascii(entry.id)[1:-1])
    except StoreError as error:
        state.problem = f"is damaged ({error.__cause__ or error})"
    finally:
        index.close()
    return state


def write_index(file: Path, entries: Iterable[Entry]) -> None:
    """Replace an index by one of these rows, all at once.

    Raises:
        DiskError: the file system refuses; the previous index stays as it is.
    """
    with disk_errors_at(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
        index = Index(aside, writable=True)
        try:
            index.put(*entries)
            index.close()
            sync(aside)
            # SQLite would apply the journal of the old file to the new one.
            for name in SIDE_FILES:
                file.with_name(name).unlink(missing_ok=True)
            aside.replace(file)
            sync(file.parent)
        finally:
            index.close()
            aside.unlink(missing_ok=True)


def recover_parameters(store: Path, entries: Sequence[Entry]) -> dict[str, Parameters]:
    """Return `{view: parameters}` that arrays suggest and fingerprints in the index confirm."""
    found: dict[str, Parameters] = {}
    for entry in entries[:10]:
        for view, candidates in (("frames", _frames_candidates), ("flow", _flow_candidates)):
            with suppress(DamagedChunk, LookupError, TypeError, ValueError):
                array = ArrayReader(store / view / entry.key)
                fitting = [p for p in candidates(array, entries) if matches(entry, view, p)]
                found[view] = fitting[0]  # an IndexError if none fits
    return found


def _frames_candidates(array: ArrayReader, entries: Sequence[Entry]) -> Iterator[Parameters]:
    # Videos smaller than the short side keep their size, so the side need not be any video's.
    for side in {DEFAULT_SIDE, *(min(e.height or 0, e.width or 0) for e in entries)}:
        yield {"short_side": side, **_codec(array)}
        yield {"short_side": side, **_codec(array), "fps": array.attributes["fps"]}


def _flow_candidates(array: ArrayReader, _: Sequence[Entry]) -> Iterator[Parameters]:
    for bound in (float(array.attributes["bound"]), DEFAULT_BOUND):
        yield {"method": "tvl1", **array.attributes["parameters"], "bound": bound, **_codec(array)}


def _codec(array: ArrayReader) -> Parameters:
    codec: Parameters = {"codec": array.codec.name}
    return codec | ({"quality": array.codec.quality} if array.codec.name == "jpeg" else {})
