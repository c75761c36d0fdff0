"""Read images as frames, in the child process of `slic.decode.child`."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.decode.containers import check_size
from slic.errors import DecodeError
from slic.runtime.regular_files import read_regular

Picture = NDArray[np.uint8]

LARGEST_FILE = 1 << 28  # bytes
_JPEG_START = b"\xff\xd8"


def read_pictures(files: Sequence[Sequence[str]]) -> Iterator[Picture]:
    """Yield frames from image files of one size.

    Args:
        files: for each frame one file, read in colour, or two, for u and v, read in gray.

    Yields:
        uint8 `(H, W, 3)` RGB, or `(H, W, 2)`.

    Raises:
        DecodeError: a file cannot be read, or its size is not that of the first; it is named.
    """
    size: tuple[int, ...] = ()
    for paths in files:
        colour = len(paths) == 1
        layers = [_read(path, colour=colour) for path in paths]
        for path, layer in zip(paths, layers, strict=True):
            size = size or layer.shape[:2]
            if layer.shape[:2] != size:
                found, first = (f"{width}x{height}" for height, width in (layer.shape[:2], size))
                raise DecodeError(f"{_name(path)} is {found}, but the images before it {first}")
        yield layers[0] if colour else np.concatenate(layers, axis=-1)


def _read(path: str, *, colour: bool) -> Picture:
    try:
        data = read_regular(Path(path), limit=LARGEST_FILE)
    except OSError as error:
        raise DecodeError(f"{_name(path)} cannot be read: {error.strerror}") from None
    if not data.startswith(_JPEG_START):
        return _read_other(path, data, colour=colour)
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height, what=_name(path))
        # Some versions of OpenCV silently fill the missing part of a damaged JPEG with gray.
        return simplejpeg.decode_jpeg(data, "RGB" if colour else "GRAY")
    except ValueError as error:
        raise DecodeError(f"{_name(path)} does not decode: {error}") from None


def _read_other(path: str, data: bytes, *, colour: bool) -> Picture:
    import cv2

    flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    picture = None
    if data:
        bytes_ = np.frombuffer(data, np.uint8)
        # OpenCV raises if there are more pixels than the child's environment allows.
        with contextlib.suppress(cv2.error):
            picture = cv2.imdecode(bytes_, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise DecodeError(f"{_name(path)} does not decode as an image, or is too large")
    check_size(picture.shape[1], picture.shape[0], what=_name(path))
    return np.asarray(picture[..., ::-1] if colour else picture[..., None], np.uint8)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
