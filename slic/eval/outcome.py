"""What a classifier's probabilities on test videos come to, and the file that keeps it."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache.clipstore import fingerprint
from slic.errors import CheckpointError
from slic.eval.recipe import Mode
from slic.metrics import topk_accuracy
from slic.runs import Run
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import LARGE, read_regular

KS = (1, 5)
_SHARES = {"top1", "top5"}
_PRINTED = {"mode", "train", "validation", "test", "clips", "crops", "per_class", "confusion"}
_OF_EPOCHS = {"epochs", "best_epoch"}  # which a probe of cached embeddings has not
FOLDER = "classify"
LARGEST_COUNT = 2**32  # videos of a class; sums of a matrix stay far within int64
# What the file holds beyond the command's result.
DETAILS = ("classes", "matrix", "predictions", "history", "settings")


@dataclass(frozen=True)
class Outcome:
    """Accuracy on N test videos; those of classes never trained on count as wrong.

    Attributes:
        top1, top5: fractions.
        per_class: top-1 of each test class's own videos.
        classes: C, trained on or tested, sorted.
        matrix: `(C, C)` int; videos by their class (row) and the predicted one (column).
        predicted: `(N,)` class names.
    """

    top1: float
    top5: float
    per_class: dict[str, float]
    classes: list[str]
    matrix: NDArray[np.int64]
    predicted: NDArray[np.str_]


def measure(
    probabilities: NDArray[Any], trained: Sequence[str], labels: NDArray[np.str_]
) -> Outcome:
    """Accuracy of predicted probabilities.

    Args:
        probabilities: `(N, K)`.
        trained: the K classes of the columns, sorted.
        labels: `(N,)` true classes.

    Raises:
        WorkError: probabilities that are NaN.
    """
    columns = np.asarray(trained)
    known = np.isin(labels, columns)
    top = dict.fromkeys(KS, 0.0)
    if known.any():
        targets = np.searchsorted(columns, labels[known])
        share = float(known.mean())
        top = {k: topk_accuracy(probabilities[known], targets, k) * share for k in KS}
    predicted = columns[probabilities.argmax(axis=1)]
    classes = np.union1d(columns, labels)
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (np.searchsorted(classes, labels), np.searchsorted(classes, predicted)), 1)
    counts = matrix.sum(axis=1)
    per_class = {
        str(name): float(matrix[i, i] / counts[i]) for i, name in enumerate(classes) if counts[i]
    }
    return Outcome(top[1], top[5], per_class, classes.tolist(), matrix, predicted)


def result_file(run: Run, store: Path, *, mode: Mode, split: int, key: dict[str, Any]) -> Path:
    """`<run>/classify/<mode>-<store>-split<N>-<digest>.json`; the digest is of all in `key`."""
    name = store.name.removesuffix(".zarr")
    return run.path / FOLDER / f"{mode}-{name}-split{split}-{fingerprint(key)}.json"


def write_result(path: Path, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write a result and its details as JSON, aside and then renamed."""
    with atomic_write(path) as file:
        file.write(json.dumps({**result, **details}).encode())


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left half-written of a result and its checkpoint."""
    if path.parent.is_dir():
        for item in path.parent.iterdir():
            if item.name.startswith(f".{path.stem}."):
                item.unlink(missing_ok=True)


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file of `write_result`.

    Raises:
        CheckpointError: it is damaged.
    """
    content = _read(path)
    return {key: value for key, value in content.items() if key not in DETAILS}


def read_matrix(path: Path) -> tuple[dict[str, Any], list[str], NDArray[np.int64]]:
    """All that a file of `write_result` holds, its C classes, and the `(C, C)` matrix.

    Raises:
        CheckpointError: it is damaged.
    """
    content = _read(path)
    try:
        return content, *_counts(content.get("classes"), content.get("matrix"))
    except ValueError:
        raise CheckpointError(_damage(path)) from None


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_regular(path, limit=LARGE))
        if _is_result(content):
            return content
    raise CheckpointError(_damage(path))


def _damage(path: Path) -> str:
    return f"{path}: holds no result; delete it, and run the same command again"


def _counts(classes: Any, matrix: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct names, and a matrix of as many rows and columns of counts.

    Raises:
        ValueError: they are not.
    """
    lists = isinstance(classes, list) and isinstance(matrix, list)
    if not lists or not all(isinstance(name, str) for name in classes):
        raise ValueError
    if not 0 < len(classes) == len(set(classes)) == len(matrix):
        raise ValueError
    for row in matrix:
        if not isinstance(row, list) or len(row) != len(classes):
            raise ValueError
        if not all(type(count) is int and 0 <= count <= LARGEST_COUNT for count in row):
            raise ValueError
    return classes, np.array(matrix, dtype=np.int64)


def _is_result(content: Any) -> bool:
    """Whether it has all that is printed of a result."""
    if not isinstance(content, dict):
        return False
    wanted = _PRINTED | _SHARES | (set() if content.get("mode") == "linear" else _OF_EPOCHS)
    if not content.keys() >= wanted:
        return False
    shares = [content[name] for name in _SHARES]
    if isinstance(content["per_class"], dict):
        shares += content["per_class"].values()
    if content["validation"]:
        shares.append(content.get("validation_top1"))
    sound = all(isinstance(share, float) and 0 <= share <= 1 for share in shares)
    return sound and isinstance(content["per_class"], dict)


def details_of(outcome: Outcome, ids: Sequence[str], labels: NDArray[np.str_]) -> dict[str, Any]:
    """Classes, confusion matrix, and `{video id: {label, predicted}}`."""
    rows = zip(ids, labels.tolist(), outcome.predicted.tolist(), strict=True)
    return {
        "classes": outcome.classes,
        "matrix": outcome.matrix.tolist(),
        "predictions": {v: {"label": label, "predicted": p} for v, label, p in rows},
    }
