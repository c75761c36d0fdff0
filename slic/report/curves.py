"""Curves of a training, from the lines of its metrics.jsonl."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 1000
Point = tuple[float, float]
Records = Sequence[Mapping[str, Any]]

HELD_OUT = "held-out groups of the training split"
TESTED = "test videos, recorded for this figure only"
# Key, title, whether it is in percent, and its series: name, and where its value stands.
_OF_EPOCHS = (
    (
        "loss",
        "Loss",
        False,
        {"loss": "loss", "instance loss": "instance_loss", "temporal loss": "temporal_loss"},
    ),
    (
        "rates",
        "False positives and false negatives",
        True,
        {"false positives": "false_positive_rate", "false negatives": "false_negative_rate"},
    ),
    ("lr", "Learning rate", False, {"learning rate": "lr"}),
    ("seconds", "Seconds an epoch", False, {"since the last stop": "seconds"}),
)
_OF_CLUSTERINGS = (
    ("agreement", "Clusters and labels", False, {"NMI": "nmi", "AMI": "ami"}),
    ("clusters", "Number of clusters", False, {"clusters": "clusters"}),
    (
        "recall",
        "Recall during training, one clip a video",
        True,
        {
            f"at 1, {HELD_OUT}": "recall.1",
            f"at 5, {HELD_OUT}": "recall.5",
            f"at 1, {TESTED}": "test_recall.1",
            f"at 5, {TESTED}": "test_recall.5",
        },
    ),
    ("distance", "Mean cosine distance of the embeddings", False, {"distance": "distance"}),
)
_ORDER = ("loss", "recall", "agreement", "clusters", "rates", "distance", "lr", "seconds")


def curves(epochs: Records, clusterings: Records) -> list[dict[str, Any]]:
    """The section `curves` of a report; without the series that hold no number at all.

    Args:
        epochs, clusterings: the lines of these kinds of a metrics.jsonl. An epoch's value stands
            at its end (epoch 0 at x = 1), a clustering's before the epoch that it begins, so
            that x is epochs trained by then.

    Returns:
        `[{key, title, x, percent, series: [{name, points: [[x, y], ...]}]}]`, of each series at
        most 1,000 points.
    """
    made = {}
    for kinds, records, after in ((_OF_EPOCHS, epochs, 1), (_OF_CLUSTERINGS, clusterings, 0)):
        for key, title, percent, names in kinds:
            series = [
                {"name": name, "points": thinned(points)}
                for name, place in names.items()
                if (points := _points(records, place.split("."), after))
            ]
            if series:
                made[key] = {"key": key, "title": title, "x": "epoch", "percent": percent}
                made[key]["series"] = series
    return [made[key] for key in _ORDER if key in made]


def _points(records: Records, place: Sequence[str], after: int) -> list[Point]:
    found: dict[float, float] = {}
    for record in records:
        value: Any = record
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        x, y = number(record.get("epoch")), number(value)
        if x is not None and y is not None:
            found[x + after] = y
    return sorted(found.items())


def number(value: Any) -> float | None:
    """A finite number as JSON can hold it, or None; files of strangers hold anything."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def thinned(points: Sequence[Point], *, most: int = MOST_POINTS) -> list[Point]:
    """At most so many of the points: the first, the last, and lowest and highest of each stretch.

    Args:
        points: of ascending x.
        most: 4 or more.
    """
    if len(points) <= most:
        return list(points)
    stretches = (most - 2) // 2
    inner = points[1:-1]
    kept = [points[0]]
    for i in range(stretches):
        begin, end = len(inner) * i // stretches, len(inner) * (i + 1) // stretches
        stretch = range(begin, end)
        low = min(stretch, key=lambda place: inner[place][1])
        high = max(stretch, key=lambda place: inner[place][1])
        kept += [inner[place] for place in sorted({low, high})]
    return [*kept, points[-1]]
