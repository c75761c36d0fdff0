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
FEWEST = 4  # videos that make a map
SPREAD = 1e-6  # of unit rows: smaller differences are rounding errors

Points = NDArray[np.float64]


def embedding_map(
    cache: EmbeddingCache, videos: Videos, *, sample: int, seed: int, feature: Feature
) -> dict[str, Any] | None:
    """Build the section `map`: method, note, videos, x and y; the same each time for one seed.

    Args:
        cache: embeddings; rows with NaN or infinity are left out.
        videos: receives the videos that are shown.
        sample: largest number of videos.
        seed: random seed of the sample and of t-SNE.
        feature: `backbone` or `projection`.

    Returns:
        None for fewer than four videos.
    """
    rows, usable = embeddings(cache, feature)
    places = np.flatnonzero(usable)
    chosen = np.sort(seeded("map", seed).permutation(places)[:sample])
    if len(chosen) < FEWEST:
        return None
    points = layout(unit_float32(rows[chosen], name="embeddings"), seed=seed)
    # Into the unit square, with one scale for both axes.
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (0.5 + (points - (low + high) / 2) / ((high - low).max() or 1.0)).round(4).T.tolist()
    note = f"All {counted(len(places), 'video')}."
    if len(chosen) < len(places):
        note = f"{len(chosen):,} of {len(places):,} videos, drawn at random (seed {seed})."
    if len(places) < len(rows):
        left_out = counted(len(rows) - len(places), "video")
        note += f" Left out: {left_out} whose embedding is not finite."
    return {
        "method": f"t-SNE of {feature} embeddings",
        "note": note,
        "videos": [videos.row_of(video) for video in cache.ids[chosen].tolist()],
        "x": x,
        "y": y,
    }


def layout(unit: FloatRows, *, seed: int) -> Points:
    """Compute positions `(N, 2)` of unit rows `(N, D)`; all zeros if the rows are equal."""
    if np.ptp(unit, axis=0).max() < SPREAD:
        return np.zeros((len(unit), 2))
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    model = TSNE(2, init="pca", perplexity=perplexity, random_state=seed % 2**32)
    # Its threads wait for each other in loops: with other processes on the cores, two of them
    # took eight times as long as one (measured). One thread also makes the map reproducible.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return model.fit_transform(unit).astype(np.float64)
