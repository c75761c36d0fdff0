"""The clip store: a Zarr v3 group of videos as JPEGs, their optical flow, and an index."""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slic.cache.entries import Entry, fingerprint, video_key
from slic.cache.flow_levels import ZERO_LEVEL, dequantise
from slic.cache.index import Index
from slic.cache.metadata import PARTS, group, read_metadata, write_metadata
from slic.cache.shards import ArrayReader, ArrayWriter, Codec
from slic.cache.writers import WriterLock, aside_name, leftovers, remove
from slic.errors import DamagedChunk, NewerFormatError, StoreError, WorkError
from slic.runtime.disk import sync, to_disk_error

FORMAT = 1
View = Literal["frames", "flow"]
VIEWS: tuple[View, ...] = ("frames", "flow")
FLOW_QUALITY = 95  # of JPEG: losses in flow cost more than losses in frames
OPEN_ARRAYS = 512  # per process: bounds the memory that shard indexes take
DIGESTED = ("id", "label", "group", "split1", "split2", "split3", "settings", "source_digest")
PUBLISH_ATTEMPTS = 5
_FOLDERS = {*PARTS, "writing"}
_LAYOUT = {*PARTS, *(f"{name}/zarr.json" for name in PARTS), "index/lock", "index/writing"}
_LAYOUT |= {"index/index.sqlite", "index/index.sqlite-journal"}


class ClipStore:
    """A clip store, opened for reading, or for writing by `prep`.

    It may be passed to forked or spawned workers. A video becomes visible once its array is
    complete and entered in the index.

    Args:
        path: the store's folder, `<name>.zarr`.
        writable: allow `write`, `publish`, `drop` and changes of `index`. Default: read only.

    Raises:
        StoreError: there is no clip store, it has a newer format, or its metadata is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = False) -> None:
        self.path = Path(path)
        self.writable = writable
        self.attributes = read_attributes(self.path)
        if not (self.path / "index" / "index.sqlite").is_file():
            raise StoreError(
                f"{self.path}: the store has no index; run `slic cache verify {self.path} --repair`"
                " makes one from its arrays"
            )
        self._lock = WriterLock(self.path)
        if writable:
            self._lock.share()
        self.index = Index(self.path / "index" / "index.sqlite", writable=writable)
        self._readers: OrderedDict[tuple[str, View], ArrayReader] = OrderedDict()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "ClipStore":
        """Open a store for writing; create an empty one if there is none."""
        path = Path(path)
        if (path / "zarr.json").exists():
            read_attributes(path)
        else:
            _make_groups(path)
        (path / "index" / "writing").mkdir(parents=True, exist_ok=True)
        lock = WriterLock(path)
        lock.share()
        Index(path / "index" / "index.sqlite", writable=True).close()
        store = cls(path, writable=True)
        lock.close()
        return store

    @property
    def name(self) -> str:
        """Name of the folder without `.zarr`."""
        return self.path.name.removesuffix(".zarr")

    def settings(self, view: View) -> dict[str, Any] | None:
        """Return the parameters of the store's frames or flow; None if `prep` has made none."""
        return self.attributes.get(view)

    def set_settings(self, view: View, settings: dict[str, Any]) -> None:
        """Record the parameters of frames or flow in the store's attributes.

        Raises:
            StoreError: another process has recorded different ones since this store was opened.
        """
        before = self.settings(view)
        if before == settings:
            return
        with self.index.locked():
            attributes = read_attributes(self.path)
            if attributes.get(view) not in (before, settings):
                raise StoreError(
                    f"{self.path}: another process has just recorded other parameters of {view};"
                    " run the same command again to see which"
                )
            self.attributes = {**attributes, view: settings}
            write_metadata(self.path / "zarr.json", group(self.attributes))

    def entries(self) -> list[Entry]:
        """Return the rows of the stored videos, in order of id."""
        return self.index.entries(failed=False)

    def failures(self) -> list[Entry]:
        """Return the rows of the videos that could not be stored."""
        return self.index.entries(failed=True)

    def outdated(self, entries: Iterable[Entry]) -> list[str]:
        """Return the ids of entries whose frames have other parameters than the store's.

        `prep frames --overwrite` leaves some when it is stopped midway.
        """
        settings = self.settings("frames")
        if settings is None:
            return []
        present = fingerprint(settings)
        return [e.id for e in entries if e.reason is None and e.settings != present]

    @property
    def ids(self) -> list[str]:
        """Ids of the stored videos, in order."""
        return [video_id for (video_id,) in self.index.rows("id")]

    def entry(self, video_id: str) -> Entry:
        """Return the index row of a stored video.

        Raises:
            StoreError: the store does not hold it.
        """
        entry = self.index.entry(video_id)
        if entry is None or entry.reason is not None:
            why = f" ({entry.reason})" if entry else ""
            raise StoreError(f"{self.path}: contains no video {video_id!r}{why}")
        return entry

    def digest(self, *, flow: bool = False) -> str:
        """Return a short digest of the content: ids, sources, parameters, labels and splits.

        Args:
            flow: include the flow. Default: frames only.
        """
        content = hashlib.blake2b(digest_size=4)
        for row in self.index.rows(*DIGESTED, *(["flow"] if flow else [])):
            content.update(repr(row).encode())
        return content.hexdigest()

    def read(
        self, video_id: str, start: int, count: int, *, stride: int = 1, view: View = "frames"
    ) -> NDArray[np.uint8]:
        """Read one clip: `count` frames from `start`, every `stride`-th.

        A clip that runs past the end wraps around to the first frame. The last frame has the flow
        of the one before, also at the join of a wrapped clip. A video of one frame has zero flow.

        Args:
            video_id: id of a stored video.
            start: first frame, 0 <= start < frames of the video.
            count: number of frames in the clip, at least 1.
            stride: step in frames, at least 1. Default: 1.
            view: `frames` or `flow`. Default: `frames`.

        Returns:
            `(count, H, W, 3)` uint8 RGB, or `(count, H, W, 2)` uint8 quantised flow: 128 is zero,
            and `(q - 128) * bound / 127` is u, v in pixels per frame.

        Raises:
            StoreError: no such video, no flow, or a position outside the video.
            DamagedChunk: stored bytes fail their checksum; the message names the video.
        """
        if view not in VIEWS:
            raise StoreError(f"unknown view {view!r}: choose frames or flow")
        reader = self._reader(video_id, "frames")
        frames = reader.shape[0]
        if not (0 <= start < frames and count >= 1 and stride >= 1):
            raise StoreError(
                f"{self.path}: {video_id}: no clip of {count} frames from {start} at stride"
                f" {stride} in {frames} frames"
            )
        positions = (start + stride * np.arange(count)) % frames
        if view == "flow":
            reader = self._reader(video_id, "flow")
            if frames == 1:
                return np.full((count, *reader.shape[1:]), ZERO_LEVEL, dtype=np.uint8)
            positions = np.minimum(positions, frames - 2)
        try:
            return reader.read(positions)
        except DamagedChunk as error:
            raise self._damaged(video_id, view, str(error)) from error

    def read_flow(
        self, video_id: str, start: int, count: int, *, stride: int = 1
    ) -> NDArray[np.float32]:
        """Read the flow of one clip in pixels; `read` says which fields.

        Args:
            video_id: id of a stored video that has flow.
            start: first frame, 0 <= start < frames of the video.
            count: number of fields in the clip, at least 1.
            stride: step in frames, at least 1; each field is still the flow to the next frame.
                Default: 1.

        Returns:
            `(count, H, W, 2)` float32: u to the right and v down, in pixels per frame. Motion
            beyond the video's `flow_bound` was stored as the bound.

        Raises:
            StoreError, DamagedChunk: as `read`; or no bound is recorded.
        """
        levels = self.read(video_id, start, count, stride=stride, view="flow")
        return dequantise(levels, self.flow_bound(video_id))

    def flow_bound(self, video_id: str) -> float:
        """Return the flow, in pixels per frame, at which a video's stored flow saturates."""
        bound = self.flow_attributes(video_id).get("bound")
        # JSON's integers may be too large for a float.
        if not isinstance(bound, int | float) or not 0 < bound <= sys.float_info.max:
            raise self._damaged(video_id, "flow", "no valid bound is recorded")
        return float(bound)

    def flow_attributes(self, video_id: str) -> dict[str, Any]:
        """Return what is recorded about a video's flow: `bound`, `engine`, `parameters`."""
        return self._reader(video_id, "flow").attributes

    def flow_codec(self, video_id: str) -> Codec:
        """Return the codec of a video's flow."""
        return self._reader(video_id, "flow").codec

    def _reader(self, video_id: str, view: View) -> ArrayReader:
        reader = self._readers.pop((video_id, view), None)
        if reader is None:
            entry = self.entry(video_id)
            if view == "flow" and entry.flow is None:
                raise StoreError(
                    f"{self.path}: {video_id} has no flow; run `slic prep flow {self.path}`"
                )
            try:
                reader = open_array(self.path, entry, view)
            except DamagedChunk as error:
                raise self._damaged(video_id, view, str(error)) from error
        self._readers[(video_id, view)] = reader
        if len(self._readers) > OPEN_ARRAYS:
            self._readers.popitem(last=False)
        return reader

    def _damaged(self, video_id: str, view: View, why: str) -> WorkError:
        if not (self.path / "index" / "index.sqlite").exists():
            return to_disk_error(self.path, FileNotFoundError(errno.ENOENT, ""))
        return DamagedChunk(
            f"{self.path}: {video_id}: {view} damaged ({why}); run"
            f" `slic cache verify {self.path} --repair`, and `slic prep {view}` again"
        )

    @contextlib.contextmanager
    def write(self, video_id: str, *, view: View, codec: Codec) -> Iterator[ArrayWriter]:
        """Write an array outside of what readers see; `publish` moves it into place.

        Nothing is left of it after an error.
        """
        self._lock.share()
        folder = self.path / "index" / "writing" / aside_name(video_key(video_id))
        writer = ArrayWriter(folder, codec)
        try:
            yield writer
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, writer: ArrayWriter, video_id: str, *, view: View) -> None:
        """Move a closed array into place, replacing an earlier one of the video."""
        target = self.path / view / video_key(video_id)
        for attempt in range(PUBLISH_ATTEMPTS):
            old = writer.folder.with_name(f"{writer.folder.name}-old{attempt}")
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            try:
                writer.folder.rename(target)
                break
            except OSError as error:
                # Another process may have put the same video there meanwhile.
                again = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
                if not again or attempt == PUBLISH_ATTEMPTS - 1:
                    raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        sync(target.parent)
        self._readers.pop((video_id, view), None)

    def drop(self, video_id: str, *, view: View) -> None:
        """Remove an array of a video, if there is one; renamed first, so it is never incomplete."""
        key = video_key(video_id)
        aside = self.path / "index" / "writing" / aside_name(key)
        with contextlib.suppress(FileNotFoundError):
            (self.path / view / key).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        self._readers.pop((video_id, view), None)

    def clear_leftovers(self) -> None:
        """Remove what killed writers left; what other hosts left, only after a day."""
        with self._lock.alone() as company:
            for leftover in leftovers(self.path, company):
                remove(leftover)

    def keys(self, view: View) -> set[str]:
        """Return the keys of the arrays in place."""
        folder = self.path / view
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
            return {item.name for item in found if item.is_dir()}
        return set()

    def size_bytes(self) -> int:
        """Return the size of all files of the store."""
        return sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(self.path)
            for name in names
        )


def _make_groups(path: Path) -> None:
    """Create an empty store; the root comes last, so an incomplete store is not one yet."""
    if path.exists() and not _is_incomplete(path):
        if (path / "zarr.json").exists():  # another process has just made it
            return
        raise StoreError(f"{path}: exists but is not a clip store; choose another --store")
    (path / "index" / "writing").mkdir(parents=True, exist_ok=True)
    for name, document in PARTS.items():
        (path / name).mkdir(exist_ok=True)
        write_metadata(path / name / "zarr.json", document)
    Index(path / "index" / "index.sqlite", writable=True).close()
    if not (path / "zarr.json").exists():
        write_metadata(path / "zarr.json", group({"format": FORMAT}))


def _is_incomplete(path: Path) -> bool:
    """Return whether a path is an empty folder, or a store whose writer was killed."""
    found = [
        item
        for item in (*path.glob("*"), *path.glob("*/*"))
        if not item.name.startswith(".zarr.json.")
    ]
    return path.is_dir() and all(
        item.relative_to(path).as_posix() in _LAYOUT and item.is_dir() == (item.name in _FOLDERS)
        for item in found
    )


def open_array(store: Path, entry: Entry, view: View) -> ArrayReader:
    """Open a video's array, and compare what it says of itself with the video's row.

    Raises:
        DamagedChunk: it is missing or damaged, or does not belong to the row.
    """
    if entry.key != video_key(entry.id):  # another key might lead out of the store
        raise DamagedChunk("the index gives it another key")
    reader = ArrayReader(store / view / entry.key)
    # A writer may have been killed between the array and its row.
    frames, size = entry.frames or 0, (entry.height, entry.width)
    expected = (frames, *size, 3) if view == "frames" else (max(0, frames - 1), *size, 2)
    if reader.shape != expected:
        raise DamagedChunk(f"array of {reader.shape} where the index says {expected}")
    if view == "frames" and reader.attributes.get("source") != entry.source_digest:
        raise DamagedChunk("array of another video file than the one in the index")
    if view == "flow" and reader.attributes.get("fingerprint", entry.flow) != entry.flow:
        raise DamagedChunk("flow of other frames than those in the index")
    return reader


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a store: its format and the parameters of its frames and flow.

    Raises:
        NewerFormatError: written by a newer slic.
        StoreError: no clip store, or its zarr.json is damaged.
    """
    if not path.is_dir():
        raise StoreError(f"{path}: no such store; create one with `slic prep frames DATASET`")
    try:
        attributes: dict[str, Any] = read_metadata(path / "zarr.json")["attributes"]
    except FileNotFoundError:
        raise StoreError(
            f"{path}: not a clip store (it has no zarr.json); create one with"
            f" `slic prep frames {path}`"
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: zarr.json cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(
            f"{path}: not a clip store, or its zarr.json is damaged ({error}); run `slic cache"
            f" verify {path}` to find out"
        ) from None
    found = attributes.get("format")
    if type(found) is not int or found < 1:
        raise StoreError(f"{path}: not a clip store (zarr.json has no slic format)")
    if found > FORMAT:
        raise NewerFormatError(
            f"{path}: format {found}, but this slic reads up to {FORMAT}; upgrade it"
        )
    return attributes
