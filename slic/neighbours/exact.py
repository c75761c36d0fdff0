"""Exact nearest neighbours by cosine similarity: faiss on the CPU, blocks on a GPU."""

from __future__ import annotations

import contextlib
import warnings
from types import ModuleType

import numpy as np
import numpy.typing as npt

from slic.errors import InputError, WorkError
from slic.neighbours.device import device_for, search_blocks

KMEANS_ROUNDS = 25

FloatRows = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def nearest(
    queries: npt.ArrayLike, gallery: npt.ArrayLike, *, k: int, block: int = 4096
) -> tuple[FloatRows, Indices]:
    """The `k` gallery rows most similar to each query, exactly.

    Equal similarities among the `k` are ordered by gallery index; which of several equal rows
    take the last places is open. A row of zeros is similar to nothing (0).

    Args:
        queries: (Q, D) of any real dtype; need not be normalised.
        gallery: (N, D).
        k: neighbours a query; more than N gives N.
        block: queries searched at a time, which bounds working memory, not the result.

    Returns:
        Cosine similarity (Q, k) float32, falling along a row, and gallery index (Q, k) int64.

    Raises:
        InputError: shapes that do not fit, an empty gallery, or `k` or `block` below 1.
        WorkError: rows that hold NaN or infinity.
    """
    rows = unit_float32(queries, name="queries")
    return nearest_units(rows, unit_float32(gallery, name="gallery"), k=k, block=block)


def nearest_units(
    queries: FloatRows, units: FloatRows, *, k: int, block: int = 4096
) -> tuple[FloatRows, Indices]:
    """`nearest` of rows that `unit_float32` has made, among such rows; neither is copied."""
    if k < 1 or block < 1:
        raise InputError(f"k and block must be 1 or more, got k={k}, block={block}")
    if queries.shape[1] != units.shape[1]:
        raise InputError(
            f"queries have {queries.shape[1]} dimensions and the gallery {units.shape[1]}; "
            "embed both with one encoder"
        )
    if len(units) == 0:
        raise InputError("the gallery is empty: there is nothing to search")
    return _search(queries, units, k=min(k, len(units)), block=block)


def first_neighbours(embeddings: npt.ArrayLike, *, block: int = 4096) -> Indices:
    """The most similar other row of each row: never the row itself, duplicated rows included.

    Args:
        embeddings: (N, D) with N of 2 or more, of any real dtype; need not be normalised.
        block: rows searched at a time.

    Returns:
        (N,) int64.

    Raises:
        InputError: not (N, D), or fewer than two rows.
        WorkError: rows that hold NaN or infinity.
    """
    rows = unit_float32(embeddings, name="embeddings")
    if len(rows) < 2:
        raise InputError(f"a first neighbour needs two rows or more, got {len(rows)}")
    return first_other(nearest_units(rows, rows, k=2, block=block)[1])


def first_other(index: Indices) -> Indices:
    """Of the two rows (N, 2) found nearest to each, the first that is not the row itself."""
    # Among duplicates a row may come second or not at all: then the first one found is another.
    return np.where(index[:, 0] == np.arange(len(index)), index[:, 1], index[:, 0])


def unit_float32(rows: npt.ArrayLike, *, name: str) -> FloatRows:
    """A contiguous float32 copy of (N, D) `rows`, each of length one; zeros stay zeros.

    Raises:
        InputError: not a matrix.
        WorkError: rows that hold NaN or infinity in float32.
    """
    with np.errstate(over="ignore"):  # what overflows to infinity is reported below
        unit = np.array(rows, dtype=np.float32, order="C")
    if unit.ndim != 2 or unit.shape[1] == 0:
        raise InputError(f"{name} must have shape (N, D), got {unit.shape}")
    broken = int(len(unit) - np.isfinite(unit).all(axis=1).sum())
    if broken:
        raise WorkError(
            f"{broken} of {len(unit)} rows of {name} hold NaN or infinity; the encoder has "
            "diverged: go back to an earlier checkpoint or lower the learning rate"
        )
    # Sums in float64, so that no finite row overflows or vanishes.
    norm = np.sqrt(np.einsum("nd,nd->n", unit, unit, dtype=np.float64))
    unit /= np.where(norm > 0, norm, 1)[:, None]
    return unit


def _search(
    rows: FloatRows, gallery: FloatRows, *, k: int, block: int
) -> tuple[FloatRows, Indices]:
    similarity = np.empty((len(rows), k), dtype=np.float32)
    neighbour = np.empty((len(rows), k), dtype=np.int64)
    device = device_for(float(len(rows)) * gallery.size)
    if device is not None:
        from torch import OutOfMemoryError

        with contextlib.suppress(OutOfMemoryError):  # others fill the GPU; the cores still can
            return by_similarity(*search_blocks(rows, gallery, k=k, device=device))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        similarity[part], neighbour[part] = by_similarity(*products(rows[part], gallery, k=k))
    return similarity, neighbour


def products(rows: FloatRows, gallery: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
    """The `k` largest inner products (Q, k) of each row, in float32, and their gallery rows.

    As IndexFlatIP does, without its copy of the rows; working memory is faiss's few megabytes.
    """
    faiss = _faiss()
    return faiss.knn(rows, gallery, k, faiss.METRIC_INNER_PRODUCT)


def by_similarity(similarity: FloatRows, index: Indices) -> tuple[FloatRows, Indices]:
    """Neighbours (Q, k) in falling order, equal ones by index."""
    order = np.lexsort((index, -similarity), axis=1)
    return np.take_along_axis(similarity, order, axis=1), np.take_along_axis(index, order, axis=1)


def kmeans_assignment(unit: FloatRows, clusters: int, *, seed: int) -> Indices:
    """The nearest centre of each row of (N, D), by spherical k-means from a random start.

    Args:
        unit: rows of length one, at least as many as clusters.
        clusters: how many.
        seed: of the first centres.

    Returns:
        (N,) int64 in 0..clusters-1.
    """
    centres = kmeans_centres(unit, clusters, seed=seed, rounds=KMEANS_ROUNDS)
    return products(unit, centres, k=1)[1][:, 0]


def kmeans_centres(unit: FloatRows, clusters: int, *, seed: int, rounds: int) -> FloatRows:
    """(clusters, D) centres by spherical k-means of (N, D), from a random start."""
    found = _faiss().Kmeans(
        unit.shape[1],
        clusters,
        niter=rounds,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(unit),
    )
    found.train(unit)
    return found.centroids


def _faiss() -> ModuleType:
    """faiss, imported late (a quarter of a second) and without its binding's warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"builtin type (swig|Swig)\w+", category=DeprecationWarning
        )
        import faiss
    return faiss
