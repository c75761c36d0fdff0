"""What a stored video was made from: its file, or its folder of images."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from slic.datasets.images import image_files
from slic.runtime.regular_files import open_regular

HASH_BLOCK = 1 << 20

# Of a file, and of a folder with its images: identity, size and times of change.
Stamp = tuple[tuple[int, ...], ...]


class SourceChanged(Exception):
    """A source was replaced or written to while it was read."""


@dataclass(frozen=True)
class Source:
    """What identifies the content of a video file or of a folder's images."""

    size: int
    mtime_ns: int
    digest: str


def read_source(path: Path) -> Source:
    """Size, time and digest of a file; of a folder, over its images of frames and their names.

    Raises:
        OSError: it cannot be read.
    """
    content = hashlib.blake2b(digest_size=16)
    if not path.is_dir():
        with open(open_regular(path), "rb") as file:
            stat = os.fstat(file.fileno())
            while block := file.read(HASH_BLOCK):
                content.update(block)
        return Source(stat.st_size, stat.st_mtime_ns, content.hexdigest())
    size, mtime_ns = size_and_time(path)
    for image in image_files(path, view="frames"):
        data = image.read_bytes()
        content.update(f"{image.name}/{len(data)}/".encode(errors="surrogateescape"))
        content.update(data)
    return Source(size, mtime_ns, content.hexdigest())


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes, and the newest time of change in nanoseconds, without reading any content.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    if not path.is_dir():
        return stat.st_size, stat.st_mtime_ns
    # The folder's own time as well: it tells of a new name.
    stats = [image.stat() for image in image_files(path, view="frames")]
    times = [stat.st_mtime_ns, *(image.st_mtime_ns for image in stats)]
    return sum(image.st_size for image in stats), max(times)


def stamp(path: Path) -> Stamp:
    """What changes when a source is replaced or written to.

    Raises:
        OSError: it is not there.
    """
    paths = [path, *(image_files(path, view="frames") if path.is_dir() else [])]
    stats = [each.stat() for each in paths]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


def check_unchanged(path: Path, before: Stamp) -> None:
    """Refuse what was read of a source that is no longer what it was.

    Raises:
        SourceChanged: its stamp is another, or it has gone.
    """
    try:
        same = stamp(path) == before
    except OSError:
        same = False
    if not same:
        raise SourceChanged(path)
