"""A map of embeddings in two dimensions, by t-SNE."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.clips.seeding import seeded
from slic.config import Feature
from slic.neighbours.exact import FloatRows, unit_float32
from slic.page.videos import Videos
from slic.report.gallery import embeddings
from slic.runtime.text import counted

PERPLEXITY = 30.0
FEWEST = 4  # up to three points lie in a plane as they are
SPREAD = 1e-6  # of unit rows: what differs by less is rounding
START, NOISE = 1e-4, 1e-6  # of t-SNE's first positions

Points = NDArray[np.float64]


def embedding_map(
    cache: EmbeddingCache, videos: Videos, *, sample: int, seed: int, feature: Feature
) -> dict[str, Any] | None:
    """The section `map` of a report: `method, note, videos, x, y`; None without embeddings.

    Of one seed it is the same each time. Videos whose embedding holds NaN or infinity are left
    out.

    Args:
        cache: embeddings.
        videos: takes the videos that are shown.
        sample: how many videos at most, drawn by `seed`.
        seed: of the draw and of t-SNE.
        feature: `backbone` or `projection`.
    """
    rows, usable = embeddings(cache, feature)
    places = np.flatnonzero(usable)
    if not len(places) or sample < 1:
        return None
    drawn = np.sort(seeded("map", seed).permutation(places)[:sample])
    unit = unit_float32(rows[drawn], name="embeddings")
    points, method = layout(unit, seed=seed)
    x, y = _framed(points).round(4).T.tolist()
    return {
        "method": f"{method} of {feature} embeddings",
        "note": _note(len(drawn), len(places), len(rows), seed),
        "videos": [videos.row_of(video) for video in cache.ids[drawn].tolist()],
        "x": x,
        "y": y,
    }


def layout(unit: FloatRows, *, seed: int) -> tuple[Points, str]:
    """Positions `(N, 2)` of rows `(N, D)` of length one, and what they are called.

    t-SNE begins with the principal components, which alone are taken for fewer than four points
    and for points that are all the same.
    """
    start = _principal(unit)
    if len(unit) < FEWEST or not start.any():
        return start, "Principal components"
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Without noise, what begins on a line would stay on it.
    noise = NOISE * seeded("t-SNE", seed).standard_normal(start.shape)
    first = (START * start / start[:, 0].std() + noise).astype(np.float32)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    model = TSNE(2, init=first, perplexity=perplexity, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its threads wait for each other in loops: where others use the cores as well, two of
        # them took eight times as long as one (measured). And so a seed gives one map anywhere.
        with threadpool_limits(1):
            return model.fit_transform(unit).astype(np.float64), "t-SNE"


def _principal(unit: FloatRows) -> Points:
    """The first two principal components, or zeros where rows are all the same."""
    rows = unit.astype(np.float64)
    rows -= rows.mean(axis=0)
    found = np.zeros((len(rows), 2))
    if np.abs(rows).max() > SPREAD:
        axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :2]
        found[:, : axes.shape[1]] = rows @ axes
    return found


def _framed(points: Points) -> Points:
    """Positions within 0 and 1, as far apart in x as in y."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max())
    return 0.5 + (points - (low + high) / 2) / (span if span > 0 else 1.0)


def _note(shown: int, usable: int, videos: int, seed: int) -> str:
    note = f"All {counted(usable, 'video')}."
    if shown < usable:
        note = f"{shown:,} of {usable:,} videos, drawn at random (seed {seed})."
    if usable < videos:
        note += f" Left out: {counted(videos - usable, 'video')} whose embedding is not finite."
    return note
