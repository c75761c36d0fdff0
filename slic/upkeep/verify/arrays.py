"""One video's arrays, read whole: every checksum, in processes of their own."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slic.cache.shards import ArrayReader, Codec
from slic.errors import DamagedChunk
from slic.runtime.disk import to_disk_error

_SHARD = re.compile(r"c\.\d+\.0\.0\.0")


@dataclass(frozen=True)
class ArrayState:
    """What one array's folder holds.

    Attributes:
        fault: what is wrong with its bytes, or None.
        shape: `(T, H, W, C)`, if its metadata can be read.
        attributes: of the array.
        codec: of its chunks.
        size: bytes read.
        strays: names of files in it that are no part of an array.
    """

    fault: str | None = None
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    attributes: dict[str, Any] | None = None
    codec: Codec | None = None
    size: int = 0
    strays: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoState:
    """Both arrays of a key; None where there is no folder."""

    key: str
    frames: ArrayState | None
    flow: ArrayState | None

    @property
    def size(self) -> int:
        """Bytes read."""
        return sum(array.size for array in (self.frames, self.flow) if array)


@dataclass(frozen=True)
class VideoJob:
    """The arrays of a key of a store, to be read whole."""

    store: Path
    key: str


def check_video(job: VideoJob) -> VideoState:
    """Read both arrays of a video."""
    frames, flow = (check_array(job.store / view / job.key) for view in ("frames", "flow"))
    return VideoState(job.key, frames, flow)


def check_array(folder: Path) -> ArrayState | None:
    """Read one array whole, a frame at a time; None if there is no such folder.

    Raises:
        DiskError: the system refuses to read it, which tells nothing of its content.
    """
    try:
        names = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise to_disk_error(folder, error) from error
    ours = {name for name in names if name == "zarr.json" or _SHARD.fullmatch(name)}
    strays = tuple(sorted(names - ours))
    try:
        reader = ArrayReader(folder)
    except DamagedChunk as error:
        return ArrayState(_reason(error, folder), strays=strays)
    fault, size = None, 0
    try:
        size = reader.check()
        beyond = ours - {"zarr.json"} - {f"c.{n}.0.0.0" for n in range(reader.shards)}
        fault = f"a shard too many ({min(beyond)})" if beyond else None
    except DamagedChunk as error:
        fault = _reason(error, folder)
    return ArrayState(fault, reader.shape, reader.attributes, reader.codec, size, strays)


def _reason(error: DamagedChunk, folder: Path) -> str:
    return str(error).removeprefix(f"{folder.name}: ")


def drop_array(folder: Path) -> None:
    """Remove an array's own files, and the folder unless a stranger's are in it.

    Its metadata go first: what is left of a killed removal is no array.
    """
    try:
        names = sorted(os.listdir(folder), key=lambda name: name != "zarr.json")
    except FileNotFoundError:
        return
    ours = [name for name in names if name == "zarr.json" or _SHARD.fullmatch(name)]
    for name in ours:
        (folder / name).unlink(missing_ok=True)
    if len(ours) == len(names):
        folder.rmdir()
