"""Which classes are taken for which: by the nearest neighbour, and by each classifier of a run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import EmbeddingCache
from slic.errors import CheckpointError
from slic.eval.outcome import FOLDER, read_matrix
from slic.report.gallery import Found
from slic.runs import Run
from slic.runtime.regular_files import brief
from slic.runtime.text import counted

TITLES = {
    "neighbour": "Nearest neighbour",
    "linear": "Linear layer",
    "linear-augmented": "Linear layer, augmented clips",
    "finetune": "Finetuned network",
}

MOST_CELLS = 50_000  # of a matrix: a page of them stays small

Section = dict[str, Any]


def confusions(
    run: Run, cache: EmbeddingCache, *, found: Found | None, split: int
) -> tuple[list[Section], list[str]]:
    """The section `confusion` of a report, and remarks on result files that are not shown.

    Args:
        run: whose classifiers (`<run>/classify/*.json`) count, those of the cache's store and
            checkpoint.
        cache: of the store in question.
        found: of `split_neighbours`; None gives no confusion by the nearest neighbour.
        split: number.
    """
    sections = [] if found is None else [_of_neighbours(cache, found)]
    remarks: list[str] = []
    others: list[str] = []
    for mode, file in _files(run, _about(cache, "store"), split):
        try:
            content, classes, matrix = read_matrix(file)
        except CheckpointError:
            remarks.append(f"{FOLDER}/{file.name} is damaged, and not shown.")
            continue
        if _is_of(content, mode, cache):
            sections.append(_section(mode, classes, matrix, _note(content, matrix)))
        else:
            others.append(file.name)
    if others:
        what = counted(len(others), "classifier")
        remarks.append(
            f"Not shown: {what} of another checkpoint, or of what the store held before."
        )
    return _with_own_keys(sections), remarks


def _files(run: Run, store: str, split: int) -> list[tuple[str, Path]]:
    """Mode and path of the result files of a store and split, in order of mode."""
    modes = [mode for mode in TITLES if mode != "neighbour"]
    pattern = rf"({'|'.join(modes)})-{re.escape(store)}-split{split}-[0-9a-f]+\.json"
    found = [
        (match[1], path)
        for path in sorted((run.path / FOLDER).glob("*.json"))
        if (match := re.fullmatch(pattern, path.name))
    ]
    return sorted(found, key=lambda pair: modes.index(pair[0]))


def _is_of(content: Section, mode: str, cache: EmbeddingCache) -> bool:
    """Whether a classifier was trained on the encoder and the videos of a cache."""
    digest, checkpoint = _about(cache, "store_digest"), _about(cache, "checkpoint")
    if mode == "linear":
        start = f"{_about(cache, 'store')}.{digest}-{checkpoint}-"
        return Path(str(content.get("cache"))).name.startswith(start)
    made = content.get("settings")
    weights = checkpoint.rpartition(".")[2]
    return (
        isinstance(made, dict) and made.get("store") == digest and made.get("checkpoint") == weights
    )


def _about(cache: EmbeddingCache, key: str) -> str:
    return str(cache.attributes.get(key, ""))


def _of_neighbours(cache: EmbeddingCache, found: Found) -> Section:
    labels = np.asarray(cache.labels)
    pairs = np.stack([labels[found.queries], labels[found.neighbours[:, 0]]])
    classes, codes = np.unique(pairs, return_inverse=True)
    true, taken = codes.reshape(pairs.shape)
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (true, taken), 1)
    note = f"The label of the nearest of {counted(found.among, 'training video')}; "
    return _section("neighbour", classes.tolist(), matrix, note + _share(matrix))


def _note(content: Section, matrix: NDArray[np.int64]) -> str:
    feature = content.get("feature")
    read = f"{feature}, " if feature in ("backbone", "projection") else ""
    clips = f"{read}clips a video: {brief(content['clips'])}"
    return f"{clips[0].upper()}{clips[1:]}; {_share(matrix)}"


def _share(matrix: NDArray[np.int64]) -> str:
    total = int(matrix.sum())
    right = 100 * int(np.trace(matrix)) / max(1, total)
    return f"{right:.1f} % of {counted(total, 'test video')} right"


def _section(mode: str, classes: list[str], matrix: NDArray[np.int64], note: str) -> Section:
    true, taken = np.nonzero(matrix)
    cells = np.stack([true, taken, matrix[true, taken]], axis=1)
    if len(cells) > MOST_CELLS:
        kept = np.sort(np.argsort(-cells[:, 2], kind="stable")[:MOST_CELLS])
        note += f"; the largest {MOST_CELLS:,} of {len(cells):,} cells are shown"
        cells = cells[kept]
    about = {"key": mode, "title": TITLES[mode], "note": note, "classes": classes}
    return {**about, "totals": matrix.sum(axis=1).tolist(), "cells": cells.tolist()}


def _with_own_keys(sections: list[Section]) -> list[Section]:
    """Further sections of a kind get a number."""
    seen: dict[str, int] = {}
    numbered = []
    for section in sections:
        key = section["key"]
        seen[key] = number = seen.get(key, 0) + 1
        more = {"key": f"{key}-{number}", "title": f"{section['title']} ({number})"}
        numbered.append({**section, **(more if number > 1 else {})})
    return numbered
