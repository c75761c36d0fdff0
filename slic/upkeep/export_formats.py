"""Write tables as parquet, csv and npz files, atomically.

A table is a dict of columns with N rows: `(N,)` str, int64 or float64, or `(N, D)` float32. The
empty string and the integer `NONE` mark missing values.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slic.runtime.disk import atomic_write
from slic.runtime.progress import progress

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 2048
NONE = -1

Columns = dict[str, NDArray[Any]]


def write_parquet(path: Path, columns: Columns, about: str) -> None:
    """Write embeddings as `fixed_size_list<float>[D]` and missing values as nulls.

    Args:
        path: the file.
        columns: the table.
        about: stored in the schema's metadata, under `slic`.

    Raises:
        DiskError: the file cannot be written; an earlier file stays.
    """
    from pyarrow.parquet import ParquetWriter

    schema = _record_batch(columns, slice(0)).schema.with_metadata({"slic": about})
    texts = [name for name, rows in columns.items() if rows.dtype.kind == "U"]
    with atomic_write(path) as file, ParquetWriter(file, schema, use_dictionary=texts) as writer:
        for part in _parts(columns):
            writer.write_batch(
                _record_batch(columns, part).replace_schema_metadata(schema.metadata)
            )


def write_csv(path: Path, columns: Columns, _about: str) -> None:
    """Write a column per dimension (`backbone_0`, ...) and missing values as empty cells.

    Numbers have as few digits as read back equal.

    Raises:
        DiskError: the file cannot be written; an earlier file stays.
    """
    from pyarrow.csv import CSVWriter

    flat: Columns = {}
    for name, rows in columns.items():
        wide = {f"{name}_{i}": column for i, column in enumerate(rows.T)} if rows.ndim > 1 else {}
        flat |= wide or {name: rows}
    with (
        atomic_write(path) as file,
        CSVWriter(file, _record_batch(flat, slice(0)).schema) as writer,
    ):
        for part in _parts(flat):
            writer.write_batch(_record_batch(flat, part))


def write_npz(path: Path, columns: Columns, about: str) -> None:
    """Write one array per column, and `about`; `np.load` reads them without pickle.

    Raises:
        DiskError: the file cannot be written; an earlier file stays.
    """
    with atomic_write(path) as file:
        np.savez(file, **columns, about=np.array(about))  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path, Columns, str], None]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "npz": write_npz,
}


def _parts(columns: Columns) -> Iterator[slice]:
    count = len(next(iter(columns.values())))
    with progress(count, "export", unit="rows") as advance:
        for begin in range(0, count, ROWS_AT_ONCE):
            part = slice(begin, min(begin + ROWS_AT_ONCE, count))
            yield part
            advance(part.stop - begin, part.stop - begin)


def _record_batch(columns: Columns, part: slice) -> "pyarrow.RecordBatch":
    import pyarrow

    arrays = [_arrow_array(rows[part]) for rows in columns.values()]
    return pyarrow.RecordBatch.from_arrays(arrays, names=list(columns))


def _arrow_array(rows: NDArray[Any]) -> "pyarrow.Array":
    import pyarrow

    if rows.ndim == 2:
        values = pyarrow.array(np.ascontiguousarray(rows).ravel())
        return pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
    if rows.dtype.kind == "U":
        return pyarrow.array(rows.tolist(), pyarrow.string(), mask=rows == "")
    if rows.dtype == np.int64:
        return pyarrow.array(rows, mask=rows == NONE)
    return pyarrow.array(np.ascontiguousarray(rows))
