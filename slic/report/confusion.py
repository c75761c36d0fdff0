"""Which classes are confused: by the nearest neighbour, and by each classifier of a run."""

import glob
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.errors import CheckpointError
from slic.eval.outcome import FOLDER, read_matrix
from slic.report.gallery import Neighbours
from slic.runs import Run
from slic.runtime.text import counted

TITLES = {
    "neighbour": "Nearest neighbour",
    "linear": "Linear layer",
    "linear-augmented": "Linear layer, augmented clips",
    "finetune": "Finetuned network",
}
MODES = list(TITLES)[1:]

Section = dict[str, Any]


def confusions(
    run: Run, cache: EmbeddingCache, *, found: Neighbours | None, split: int
) -> tuple[list[Section], list[str]]:
    """Build the section `confusion`, and remarks on result files that are not shown.

    Args:
        run: run whose classifiers (`<run>/classify/*.json`) are shown, if they belong to the
            cache's store and checkpoint.
        cache: embeddings.
        found: result of `split_neighbours`; None leaves out the nearest neighbour.
        split: number of the split.
    """
    sections = [] if found is None else [_of_neighbours(cache, found)]
    remarks: list[str] = []
    others, seen = 0, Counter[str]()
    store = glob.escape(str(cache.attributes.get("store")))
    files = [
        (mode, file)
        for mode in MODES
        for file in sorted((run.path / FOLDER).glob(f"{mode}-{store}-split{split}-*.json"))
    ]
    for mode, file in files:
        try:
            content, classes, matrix = read_matrix(file)
        except CheckpointError:
            remarks.append(f"{FOLDER}/{file.name} is damaged and not shown.")
            continue
        if not _belongs(content, mode, cache):
            others += 1
            continue
        clips = f"clips per video: {content['clips']}"
        note = f"{content['feature']}, {clips}" if content.get("feature") else clips
        section = _section(mode, classes, matrix, f"{note[0].upper()}{note[1:]}")
        seen[mode] += 1
        if seen[mode] > 1:
            section["key"] += f"-{seen[mode]}"
            section["title"] += f" ({seen[mode]})"
        sections.append(section)
    if others:
        what = counted(others, "classifier")
        remarks.append(
            f"Not shown: {what} of another checkpoint, or of earlier videos in the store."
        )
    return sections, remarks


def _belongs(content: Section, mode: str, cache: EmbeddingCache) -> bool:
    """Whether a classifier was trained on the encoder and the videos of a cache."""
    store, digest, checkpoint = (
        str(cache.attributes.get(key)) for key in ("store", "store_digest", "checkpoint")
    )
    if mode == "linear":
        name = Path(str(content.get("cache"))).name
        return name.startswith(f"{store}.{digest}-{checkpoint}-")
    made = content.get("settings") or {}
    weights = checkpoint.rpartition(".")[2]
    return bool(made.get("store") == digest and made.get("checkpoint") == weights)


def _of_neighbours(cache: EmbeddingCache, found: Neighbours) -> Section:
    labels = np.asarray(cache.labels)
    pairs = np.stack([labels[found.queries], labels[found.neighbours[:, 0]]])
    classes, codes = np.unique(pairs, return_inverse=True)
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, tuple(codes.reshape(pairs.shape)), 1)
    note = f"The label of the nearest of {counted(found.gallery_size, 'training video')}"
    return _section("neighbour", classes.tolist(), matrix, note)


def _section(mode: str, classes: list[str], matrix: NDArray[np.int64], note: str) -> Section:
    total = int(matrix.sum())
    share = 100 * int(np.trace(matrix)) / max(1, total)
    true, predicted = np.nonzero(matrix)
    cells = np.stack([true, predicted, matrix[true, predicted]], axis=1)
    return {
        "key": mode,
        "title": TITLES[mode],
        "note": f"{note}; {share:.1f} % of {counted(total, 'test video')} right",
        "classes": classes,
        "totals": matrix.sum(axis=1).tolist(),
        "cells": cells.tolist(),
    }
