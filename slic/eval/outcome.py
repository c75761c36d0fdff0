"""Measure a classifier's predictions, and save and read its result file."""

import contextlib
import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache.entries import fingerprint
from slic.errors import CheckpointError
from slic.eval.recipe import Mode
from slic.metrics import topk_accuracy
from slic.runs import Run
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import LARGE, read_regular

KS = (1, 5)
FOLDER = "classify"
# Keys of the file that are not part of the command's result.
DETAILS = ("classes", "matrix", "predictions", "history", "settings")
_COUNTS = ("train", "validation", "test", "clips", "crops")
_EPOCHS = ("epochs", "best_epoch")  # only of classifiers that are trained in epochs


@dataclass(frozen=True)
class Outcome:
    """Accuracy on N test videos; videos of classes without training videos count as wrong.

    Attributes:
        top1, top5: Fractions of the videos.
        per_class: Top-1 of each test class's videos.
        classes: The C classes of training and test videos, sorted.
        matrix: `(C, C)` int64, videos by true class (row) and predicted class (column).
        labels: `(N,)` true class names.
        predicted: `(N,)` predicted class names.
    """

    top1: float
    top5: float
    per_class: dict[str, float]
    classes: list[str]
    matrix: NDArray[np.int64]
    labels: NDArray[np.str_]
    predicted: NDArray[np.str_]


def measure(
    probabilities: NDArray[Any], trained: Sequence[str], labels: NDArray[np.str_]
) -> Outcome:
    """Compute the accuracy of predicted probabilities.

    Args:
        probabilities: `(N, K)` class probabilities of N videos.
        trained: The K class names of the columns, sorted.
        labels: `(N,)` true class names.

    Raises:
        WorkError: Some probabilities are NaN.
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
    return Outcome(top[1], top[5], per_class, classes.tolist(), matrix, labels, predicted)


def about_run(run: Run, store: Path, split: int | str) -> dict[str, Any]:
    """Return the part of a result that says what was evaluated."""
    return {
        "run": str(run.path),
        "store": str(store),
        "split": split,
        "pretrained_on": None if run.imported else run.settings.split,
    }


def result_file(run: Run, store: Path, *, mode: Mode, split: int, key: Mapping[str, Any]) -> Path:
    """Return `<run>/classify/<mode>-<store>-split<N>-<digest of key>.json`."""
    name = store.name.removesuffix(".zarr")
    return run.path / FOLDER / f"{mode}-{name}-split{split}-{fingerprint(dict(key))}.json"


def save_outcome(
    path: Path, about: dict[str, Any], outcome: Outcome, ids: Sequence[str], **details: Any
) -> dict[str, Any]:
    """Write an outcome to its result file, and return the command's result.

    Args:
        path: The file.
        about: Other entries of the result.
        outcome: Accuracy on N test videos.
        ids: The N videos' ids.
        **details: Entries for the file alone.
    """
    result = {
        **about,
        "top1": outcome.top1,
        "top5": outcome.top5,
        "per_class": outcome.per_class,
        "confusion": str(path),
    }
    rows = zip(ids, outcome.labels.tolist(), outcome.predicted.tolist(), strict=True)
    predictions = {video: {"label": label, "predicted": p} for video, label, p in rows}
    matrix = {"classes": outcome.classes, "matrix": outcome.matrix.tolist()}
    write_result(path, result, {**matrix, "predictions": predictions, **details})
    return result


def write_result(path: Path, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Write a result and its details as JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps({**result, **details}).encode())


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of this result and its checkpoint that a killed process left."""
    for item in path.parent.glob(f".{glob.escape(path.stem)}.*"):
        item.unlink(missing_ok=True)


def read_result(path: Path) -> dict[str, Any]:
    """Read the command's result from a result file.

    Raises:
        CheckpointError: The file is damaged.
    """
    content = _read(path)
    return {key: value for key, value in content.items() if key not in DETAILS}


def read_matrix(path: Path) -> tuple[dict[str, Any], list[str], NDArray[np.int64]]:
    """Read a result file: its content, its C classes, and its `(C, C)` confusion matrix.

    Raises:
        CheckpointError: The file is damaged.
    """
    content = _read(path)
    classes: Any = content.get("classes")
    with contextlib.suppress(ValueError):  # rows of different lengths
        matrix = np.array(content.get("matrix"))
        named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        counts = matrix.dtype.kind == "i" and (matrix >= 0).all()
        if named and counts and matrix.shape == (len(classes), len(set(classes))):
            return content, classes, matrix
    raise _damaged(path)


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_regular(path, limit=LARGE))
        if _is_result(content):
            return content
    raise _damaged(path)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: damaged; delete it and run the same command again")


def _is_result(content: Any) -> bool:
    """Check the entries that are printed, as a flipped bit may leave valid JSON."""
    if not isinstance(content, dict) or not isinstance(content.get("per_class"), dict):
        return False
    counts = _COUNTS if content.get("mode") == "linear" else _COUNTS + _EPOCHS
    if any(type(content.get(name)) is not int for name in counts):
        return False
    fractions = [content.get("top1"), content.get("top5"), *content["per_class"].values()]
    if content["validation"]:
        fractions.append(content.get("validation_top1"))
    return all(isinstance(value, float) and 0 <= value <= 1 for value in fractions)
