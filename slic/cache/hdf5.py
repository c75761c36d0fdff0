"""HDF5 files of embeddings and clusterings, in which no damage goes unnoticed.

HDF5's file format of version 1.10 has checksums of every structure, attributes included, and the
filter fletcher32 adds those of the rows. Strings have a fixed length, because neither of the two
covers strings of variable length.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.runtime.regular_files import check_regular
from slic.runtime.text import escape

Columns = dict[str, NDArray[Any]]
_VERSION = ("v110", "v110")


def write_hdf5(
    path: Path,
    columns: Mapping[str, NDArray[Any] | Sequence[str]],
    attributes: Mapping[str, str | int | float] | None = None,
) -> None:
    """Write an HDF5 file aside, then rename it to `path`.

    Args:
        path: the file to create or replace.
        columns: `{name: numbers of any shape, or N strings}`, one dataset each.
        attributes: attributes of the file; none by default.

    Raises:
        DiskError: the file system refuses; the previous file stays as it is.
        UnicodeEncodeError: a string has no UTF-8 encoding.
    """
    # Built in memory: HDF5 2.0 ends the process with a segmentation fault when a disk fills up.
    content = io.BytesIO()
    with h5py.File(content, "w", libver=_VERSION) as file:
        for name, value in (attributes or {}).items():
            file.attrs[name] = _encoded([value]).reshape(()) if isinstance(value, str) else value
        for name, column in columns.items():
            data = column if isinstance(column, np.ndarray) else _encoded(column)
            # HDF5 filters chunks, and an empty dataset has none.
            file.create_dataset(name, data=data, fletcher32=data.size > 0)
    with atomic_write(path) as target:
        target.write(content.getbuffer())


def read_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the attributes of an HDF5 file: strings and numbers.

    Raises:
        FileNotFoundError: there is no such file.
        DiskError: the system refuses to read it.
        ValueError: it is damaged, or no HDF5 file; the message is one line.
    """
    with _opened(path) as file:
        return {name: _plain(value) for name, value in file.attrs.items()}


def read_columns(path: str | os.PathLike[str]) -> Columns:
    """Read every dataset of an HDF5 file; strings become arrays of `str`.

    Raises:
        FileNotFoundError, DiskError, ValueError: as `read_attributes`.
    """
    with _opened(path) as file:
        return {name: _values(file[name]) for name in file}


def column(columns: Columns, name: str, dtype: DTypeLike, *, ndim: int = 1) -> NDArray[Any]:
    """Return one column, after checking its type and number of dimensions.

    Raises:
        ValueError: it is missing, or differs.
    """
    if name not in columns:
        raise ValueError(f"it has no dataset {name}")
    found = columns[name]
    if found.ndim != ndim or not np.issubdtype(found.dtype, dtype):
        raise ValueError(f"{name} is {found.dtype} {found.shape}, not {np.dtype(dtype)}")
    return found


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise
    # h5py raises errors of many types for damaged files, AttributeError and SystemError included.
    except Exception as error:
        raise_if_unreadable(path, error)
        reason = escape(str(error).splitlines()[0][:160]) if str(error) else type(error).__name__
        raise ValueError(reason) from error


def _encoded(strings: Sequence[str]) -> NDArray[Any]:
    coded = [string.encode() for string in strings]
    longest = max(map(len, coded), default=0)
    return np.array(coded, dtype=h5py.string_dtype("utf-8", max(1, longest)))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else value.item()


def _values(dataset: h5py.Dataset) -> NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr()[()].astype(np.str_)
    return np.asarray(dataset[()])
