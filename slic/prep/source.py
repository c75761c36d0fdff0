"""The source of a stored video: its file, or its folder of images."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from slic.datasets.images import image_files
from slic.runtime.regular_files import open_regular

HASH_BLOCK = 1 << 20

# Identity, size and times of change of a file, or of a folder and its images.
Stamp = tuple[tuple[int, ...], ...]


class SourceChanged(Exception):
    """A source was replaced or modified while it was read."""


@dataclass(frozen=True)
class Source:
    """Size, time of change (ns) and digest that identify the content of a source."""

    size: int
    mtime_ns: int
    digest: str


def read_source(path: Path) -> Source:
    """Read a file, or the images of frames in a folder, for its size, time and digest.

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
    """Return the bytes of a source and its latest time of change (ns), without reading it.

    Raises:
        OSError: it does not exist.
    """
    stat = path.stat()
    if not path.is_dir():
        return stat.st_size, stat.st_mtime_ns
    # The folder's own time changes if an image is added or renamed.
    stats = [image.stat() for image in image_files(path, view="frames")]
    times = [stat.st_mtime_ns, *(image.st_mtime_ns for image in stats)]
    return sum(image.st_size for image in stats), max(times)


def stamp(path: Path) -> Stamp:
    """Return a value that changes if a source is replaced or modified.

    Raises:
        OSError: it does not exist.
    """
    paths = [path, *(image_files(path, view="frames") if path.is_dir() else [])]
    stats = [each.stat() for each in paths]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


def check_unchanged(path: Path, before: Stamp) -> None:
    """Compare a source's stamp with one that was taken before it was read.

    Raises:
        SourceChanged: it differs, or the source is gone.
    """
    try:
        same = stamp(path) == before
    except OSError:
        same = False
    if not same:
        raise SourceChanged(path)
