"""Exact nearest neighbours by cosine similarity: with faiss on the CPU, with PyTorch on a GPU."""

from __future__ import annotations

import contextlib
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slic.errors import InputError, WorkError

if TYPE_CHECKING:
    import torch

KMEANS_ROUNDS = 25
GPU_FROM = 1e11  # multiplications: a second of one core
GPU_QUERIES, GPU_GALLERY = 8192, 16384  # rows of a block, whose product takes 512 MiB

FloatRows = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def nearest(
    queries: npt.ArrayLike, gallery: npt.ArrayLike, *, k: int, block: int = 4096
) -> tuple[FloatRows, Indices]:
    """Find the `k` gallery rows most similar to each query, exactly.

    Rows of equal similarity are ordered by gallery index; which of several equal rows take the
    last places is undefined. A row of zeros has similarity 0 to every row.

    Args:
        queries: `(Q, D)` of any real dtype; rows need not be normalised.
        gallery: `(N, D)`.
        k: number of neighbours of each query; at most N are returned.
        block: number of queries searched at a time, which limits memory and not the result.

    Returns:
        Cosine similarity `(Q, k)` float32, descending along a row, and gallery index `(Q, k)`
        int64.

    Raises:
        InputError: shapes that do not fit, an empty gallery, or `k` or `block` below 1.
        WorkError: rows that hold NaN or infinity.
    """
    rows = unit_float32(queries, name="queries")
    return nearest_units(rows, unit_float32(gallery, name="gallery"), k=k, block=block)


def nearest_units(
    queries: FloatRows, units: FloatRows, *, k: int, block: int = 4096
) -> tuple[FloatRows, Indices]:
    """Do as `nearest`, for rows normalised by `unit_float32`; nothing is copied."""
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
    """Find the most similar other row of each row; never the row itself, even among duplicates.

    Args:
        embeddings: `(N, D)`, N >= 2, of any real dtype; rows need not be normalised.
        block: number of rows searched at a time.

    Returns:
        `(N,)` int64.

    Raises:
        InputError: not `(N, D)`, or fewer than two rows.
        WorkError: rows that hold NaN or infinity.
    """
    rows = unit_float32(embeddings, name="embeddings")
    if len(rows) < 2:
        raise InputError(f"a first neighbour needs two rows or more, got {len(rows)}")
    return first_other(nearest_units(rows, rows, k=2, block=block)[1])


def first_other(index: Indices) -> Indices:
    """Return from the two rows `(N, 2)` nearest to each row the first one that is not itself."""
    # Among duplicates, the row itself may come second or not at all: the first is another one then.
    return np.where(index[:, 0] == np.arange(len(index)), index[:, 1], index[:, 0])


def unit_float32(rows: npt.ArrayLike, *, name: str) -> FloatRows:
    """Return a contiguous float32 copy of rows `(N, D)`, scaled to length one; zeros stay zeros.

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
    device = _gpu_for(float(len(rows)) * gallery.size)
    if device is not None:
        from torch import OutOfMemoryError

        with contextlib.suppress(OutOfMemoryError):  # other programs fill the GPU: use the CPU
            return by_similarity(*search_blocks(rows, gallery, k=k, device=device))
    similarity = np.empty((len(rows), k), dtype=np.float32)
    neighbour = np.empty((len(rows), k), dtype=np.int64)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        similarity[part], neighbour[part] = by_similarity(*products(rows[part], gallery, k=k))
    return similarity, neighbour


def _gpu_for(multiplications: float) -> torch.device | None:
    """Return the GPU that this process uses already, if the work is worth one.

    A GPU that it does not use is left alone: `--device cpu` may have been given for a reason.
    """
    torch = sys.modules.get("torch")
    if multiplications < GPU_FROM or torch is None or not torch.cuda.is_initialized():
        return None
    return torch.device(
        "cuda", max(range(torch.cuda.device_count()), key=torch.cuda.memory_allocated)
    )


def search_blocks(
    rows: FloatRows,
    gallery: FloatRows,
    *,
    k: int,
    device: torch.device,
    block: int = GPU_QUERIES,
    gallery_block: int = GPU_GALLERY,
) -> tuple[FloatRows, Indices]:
    """Find the `k` largest inner products of each row on a device, in float32.

    Args:
        rows: `(Q, D)`.
        gallery: `(N, D)`, N >= k.
        k: number of products of each row.
        device: any device that PyTorch has.
        block: number of rows at a time, which limits memory and not the result.
        gallery_block: number of gallery rows at a time.

    Returns:
        Product `(Q, k)`, descending along a row, and gallery index `(Q, k)`.
    """
    import torch

    product = np.empty((len(rows), k), dtype=np.float32)
    index = np.empty((len(rows), k), dtype=np.int64)
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for start in range(0, len(rows), block):
            queries = torch.tensor(rows[start : start + block], device=device)
            best = torch.empty((len(queries), 0), device=device)
            where = torch.empty((len(queries), 0), device=device, dtype=torch.int64)
            for first in range(0, len(gallery), gallery_block):
                others = torch.tensor(gallery[first : first + gallery_block], device=device)
                top, at = (queries @ others.T).topk(min(k, len(others)), dim=1)
                best, where = torch.cat((best, top), dim=1), torch.cat((where, at + first), dim=1)
                best, chosen = best.topk(min(k, best.shape[1]), dim=1)
                where = where.gather(1, chosen)
            product[start : start + block] = best.cpu().numpy()
            index[start : start + block] = where.cpu().numpy()
    return product, index


def products(rows: FloatRows, gallery: FloatRows, *, k: int) -> tuple[FloatRows, Indices]:
    """Find the `k` largest inner products `(Q, k)` of each row, in float32, and their gallery rows.

    As faiss's IndexFlatIP does, but without its copy of the gallery.
    """
    faiss = _faiss()
    return faiss.knn(rows, gallery, k, faiss.METRIC_INNER_PRODUCT)


def by_similarity(similarity: FloatRows, index: Indices) -> tuple[FloatRows, Indices]:
    """Sort neighbours `(Q, k)` by descending similarity, equal ones by index."""
    order = np.lexsort((index, -similarity), axis=1)
    return np.take_along_axis(similarity, order, axis=1), np.take_along_axis(index, order, axis=1)


def kmeans_assignment(unit: FloatRows, clusters: int, *, seed: int) -> Indices:
    """Return the nearest centre of each row after spherical k-means.

    Args:
        unit: `(N, D)` rows of length one, at least as many as clusters.
        clusters: number of clusters.
        seed: seed of the first centres.

    Returns:
        `(N,)` int64 in 0..clusters-1.
    """
    centres = kmeans_centres(unit, clusters, seed=seed, rounds=KMEANS_ROUNDS)
    return products(unit, centres, k=1)[1][:, 0]


def kmeans_centres(unit: FloatRows, clusters: int, *, seed: int, rounds: int) -> FloatRows:
    """Return the centres `(clusters, D)` of spherical k-means, started at random."""
    solver = _faiss().Kmeans(
        unit.shape[1],
        clusters,
        niter=rounds,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(unit),
    )
    solver.train(unit)
    return solver.centroids


def _faiss() -> ModuleType:
    """Import faiss late, as it takes a quarter of a second, and without its SWIG warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"builtin type (swig|Swig)\w+", category=DeprecationWarning
        )
        import faiss
    return faiss
