"""Tables of videos as parquet, csv and npz files, written in parts, each whole or absent."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slic.runtime.disk import atomic_write
from slic.runtime.progress import progress

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 2048
NONE = -1  # a whole number that is not known; a text is then empty
_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Columns:
    """Columns of N rows by name, in order.

    Attributes:
        values: `(N,)` str, int64 or float64; or `(N, D)` float32. An empty text and an int of -1
            mean that nothing is known.
    """

    values: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


def write_parquet(path: Path, columns: Columns, about: str) -> int:
    """Embeddings as `fixed_size_list<float>[D]`, unknown values as nulls; the file's bytes.

    `about` stands in the schema's metadata, as `slic`.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    from pyarrow.parquet import ParquetWriter

    schema = _arrow(columns, slice(0, 0)).schema.with_metadata({"slic": about})
    texts = [name for name, rows in columns.values.items() if rows.dtype.kind == "U"]
    with (
        atomic_write(path) as file,
        ParquetWriter(file, schema, use_dictionary=texts) as writer,
    ):
        for part in _parts(columns):
            writer.write_batch(_arrow(columns, part).replace_schema_metadata({"slic": about}))
    return path.stat().st_size


def write_csv(path: Path, columns: Columns, _about: str) -> int:
    """One column a dimension, `backbone_0` and so on; unknown values are empty; the file's bytes.

    Numbers are as short as they can be to be read back equal.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    from pyarrow.csv import CSVWriter

    def wide(part: slice) -> "pyarrow.RecordBatch":
        return _arrow(Columns(dict(_flat(columns, part))), slice(None))

    with atomic_write(path) as file, CSVWriter(file, wide(slice(0, 0)).schema) as writer:
        for part in _parts(columns):
            writer.write_batch(wide(part))
    return path.stat().st_size


def write_npz(path: Path, columns: Columns, about: str) -> int:
    """One array a column, and `about`; read by `np.load` without pickle; the file's bytes.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    arrays = {**columns.values, "about": np.array(about)}
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w") as archive,
        progress(len(arrays), "export", unit="MB") as advance,
    ):
        for name, rows in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH_OF_ZIP)
            with archive.open(entry, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, rows, allow_pickle=False)
            advance(1, rows.nbytes / 1e6)
    return path.stat().st_size


WRITERS: dict[str, Callable[[Path, Columns, str], int]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "npz": write_npz,
}


def _parts(columns: Columns) -> Iterator[slice]:
    with progress(len(columns), "export", unit="rows") as advance:
        for begin in range(0, len(columns), ROWS_AT_ONCE):
            part = slice(begin, min(begin + ROWS_AT_ONCE, len(columns)))
            yield part
            advance(part.stop - begin, part.stop - begin)


def _flat(columns: Columns, part: slice) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, rows in columns.values.items():
        if rows.ndim == 1:
            yield name, rows[part]
        else:
            for number, column in enumerate(rows[part].T):
                yield f"{name}_{number}", column


def _arrow(columns: Columns, part: slice) -> "pyarrow.RecordBatch":
    import pyarrow

    arrays = [_array(rows[part]) for rows in columns.values.values()]
    return pyarrow.RecordBatch.from_arrays(arrays, names=list(columns.values))


def _array(rows: NDArray[Any]) -> "pyarrow.Array":
    import pyarrow

    if rows.ndim == 2:
        values = pyarrow.array(np.ascontiguousarray(rows).ravel())
        return pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
    if rows.dtype.kind == "U":
        return pyarrow.array(rows.tolist(), pyarrow.string(), mask=rows == "")
    if rows.dtype == np.int64:
        return pyarrow.array(rows, mask=rows == NONE)
    return pyarrow.array(rows)
