"""Curves of a training, from the lines of its metrics.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

from slic.report.summary import is_number

Records = Sequence[Mapping[str, Any]]

HELD_OUT = "held-out groups of the training split"
TESTED = "test videos, recorded for this figure only"
# In the order of the page: key, title, whether values are fractions, kind of line in
# metrics.jsonl, and the series: name, and key of the value in a line.
CURVES: tuple[tuple[str, str, bool, str, dict[str, str]], ...] = (
    (
        "loss",
        "Loss",
        False,
        "epoch",
        {"loss": "loss", "instance loss": "instance_loss", "temporal loss": "temporal_loss"},
    ),
    (
        "recall",
        "Recall during training, one clip per video",
        True,
        "clustering",
        {
            f"at 1, {HELD_OUT}": "recall.1",
            f"at 5, {HELD_OUT}": "recall.5",
            f"at 1, {TESTED}": "test_recall.1",
            f"at 5, {TESTED}": "test_recall.5",
        },
    ),
    (
        "agreement",
        "Agreement of clusters and labels",
        False,
        "clustering",
        {"NMI": "nmi", "AMI": "ami"},
    ),
    ("clusters", "Number of clusters", False, "clustering", {"clusters": "clusters"}),
    (
        "rates",
        "False positives and false negatives",
        True,
        "epoch",
        {"false positives": "false_positive_rate", "false negatives": "false_negative_rate"},
    ),
    (
        "distance",
        "Mean cosine distance of the embeddings",
        False,
        "clustering",
        {"distance": "distance"},
    ),
    ("lr", "Learning rate", False, "epoch", {"learning rate": "lr"}),
    ("seconds", "Seconds per epoch", False, "epoch", {"since the last interruption": "seconds"}),
)


def curves(epochs: Records, clusterings: Records) -> list[dict[str, Any]]:
    """Build the section `curves`; series without any number are left out.

    Args:
        epochs: lines of kind `epoch`. Their values belong to the end of the epoch: epoch 0 has
            x = 1, the number of epochs trained by then.
        clusterings: lines of kind `clustering`. Their values belong to the beginning of the epoch.

    Returns:
        `[{key, title, x, percent, series: [{name, points: [[x, y], ...]}]}]`.
    """
    found = []
    for key, title, percent, kind, names in CURVES:
        records, offset = (epochs, 1) if kind == "epoch" else (clusterings, 0)
        series = [
            {"name": name, "points": points}
            for name, value_key in names.items()
            if (points := _points(records, value_key.split("."), offset))
        ]
        if series:
            about = {"key": key, "title": title, "x": "epoch", "percent": percent}
            found.append({**about, "series": series})
    return found


def _points(records: Records, keys: Sequence[str], offset: int) -> list[tuple[float, float]]:
    """Return the points of a series, by ascending x; of an epoch recorded twice, the last."""
    points: dict[float, float] = {}
    for record in records:
        value: Any = record
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if is_number(record.get("epoch")) and is_number(value):
            points[record["epoch"] + offset] = value
    return sorted(points.items())
