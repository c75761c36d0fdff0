"""Save the IVF index of a large embedding cache beside it, and load it again.

`<cache>.<feature>.npz` holds the arrays of an `IvfIndex`, and a digest of the rows that it was made
from. The archive's own checksums detect damage. Below a million rows searches are exact and need no
index: normalising the rows takes no longer than reading them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from slic.cache import EmbeddingCache
from slic.config import Feature
from slic.errors import CacheError, DiskError
from slic.neighbours.exact import FloatRows, unit_float32
from slic.neighbours.ivf import IvfIndex, approximate, build_ivf_index
from slic.runtime.disk import atomic_write, raise_if_unreadable
from slic.runtime.regular_files import open_regular

# The first version's indexes end in `.faiss`. They are removed, not read.
_ENDINGS = {f".{name}.{kind}": name for name in get_args(Feature) for kind in ("npz", "faiss")}


def index_path(cache: Path, feature: Feature) -> Path:
    """Return the path of the index of a cache's feature."""
    return cache.with_name(f"{cache.name.removesuffix('.h5')}.{feature}.npz")


def index_paths(cache: Path) -> list[Path]:
    """Return the indexes that a cache has, including those of the first version (`.faiss`)."""
    stem = cache.name.removesuffix(".h5")
    paths = [cache.with_name(f"{stem}{ending}") for ending in _ENDINGS]
    return [path for path in paths if path.is_file()]


def saved_indexes(folder: Path) -> list[Path]:
    """Return all files in a folder that are named like an index."""
    return sorted([*folder.glob("[!.]*.npz"), *folder.glob("[!.]*.faiss")])


def stray_indexes(folder: Path) -> list[Path]:
    """Return the indexes in a folder whose cache no longer exists."""
    paths = saved_indexes(folder)
    return [path for path in paths if (of := _cache_of(path)) and not of[0].exists()]


def _cache_of(index: Path) -> tuple[Path, Feature] | None:
    """Return the cache and feature that a file is the index of, by its name."""
    for ending, feature in _ENDINGS.items():
        if index.name.endswith(ending):
            return index.with_name(f"{index.name.removesuffix(ending)}.h5"), feature
    return None


def unit_rows(
    cache: EmbeddingCache, feature: Feature, *, say: Callable[[str], None] = print
) -> FloatRows | IvfIndex:
    """Return a cache's rows, each of length one; from a million rows, in an IVF index.

    The index is loaded if it has been saved, or else built and saved.

    Args:
        cache: embeddings of N videos or windows.
        feature: which embedding.
        say: called with a line about the index, and where it is damaged or cannot be saved.

    Returns:
        `(N, D)` float32, or an index of them.

    Raises:
        WorkError: rows that hold NaN or infinity.
    """
    path, rows = index_path(cache.path, feature), _rows(cache, feature)
    if not approximate(len(rows)):
        return unit_float32(rows, name=feature)
    index = None
    try:
        index = _load(path, rows)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        say(f"{path}: {error}; rebuilding the index")
    if index is None:
        index = build_ivf_index(unit_float32(rows, name=feature), k=1)
        try:
            with atomic_write(path) as file:
                np.savez(file, of=_digest(rows), **vars(index))
        except DiskError as error:
            say(f"the search index is not saved: {error}")
    say(index.summary)
    return index


def index_fault(path: Path) -> str | None:
    """Return what is wrong with a saved index, or None.

    Raises:
        DiskError: the system refuses to read it.
    """
    of = _cache_of(path)
    if of is None or path.suffix == ".faiss":
        return "belongs to an unknown embedding or to an earlier version of slic"
    try:
        rows = _rows(EmbeddingCache(of[0]), of[1])
    except CacheError:
        return "its embedding cache is gone or damaged"
    try:
        _load(path, rows)
    except (OSError, ValueError) as error:
        raise_if_unreadable(path, error)
        return str(error)
    return None


def _load(path: Path, rows: FloatRows) -> IvfIndex:
    """Load the index of these rows; ValueError if the file is damaged, or of others."""
    with open(open_regular(path), "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
            of = str(values.pop("of"))
            index = IvfIndex(**{k: v if v.ndim else v.item() for k, v in values.items()})
        except Exception as error:  # NumPy and zipfile raise many kinds
            raise ValueError("is damaged, or not an index") from error
    if of != _digest(rows):
        raise ValueError("belongs to another cache")
    return index


def _rows(cache: EmbeddingCache, feature: Feature) -> FloatRows:
    return cache.backbone if feature == "backbone" else cache.projection


def _digest(rows: FloatRows) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16).hexdigest()
