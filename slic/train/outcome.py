"""What a run's folder says that its training came to, and what a killed one left there."""

from collections.abc import Mapping, Sequence
from typing import Any

from slic.engine.divergence import FAILED_STEP
from slic.errors import CheckpointError
from slic.runs import Run


def remove_leftovers(run: Run) -> None:
    """Remove what a killed process has left half-written; only for the holder of the lock."""
    patterns = (
        ".metrics.jsonl.*",
        ".clusters.h5.*",
        f".{FAILED_STEP}.*",
        "checkpoints/.latest.*",
        "checkpoints/.epoch*.*",
        "embeddings/.*-train.h5.*",
    )
    for path in (path for pattern in patterns for path in run.path.glob(pattern)):
        path.unlink(missing_ok=True)


def is_done(run: Run) -> bool:
    """Whether a run has trained to its end."""
    return bool(run.records("done"))


def result(run: Run) -> dict[str, Any]:
    """What `slic train --json` prints of a finished run.

    Raises:
        CheckpointError: lines of its metrics.jsonl are lost.
    """
    epochs, clusterings = run.records("epoch"), run.records("clustering")
    if not epochs or not clusterings or not _is_whole(epochs[-1], clusterings):
        raise CheckpointError(f"{run.metrics}: its lines are lost; the checkpoint is whole")
    last = clusterings[-1]
    return {
        "run": str(run.path),
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "checkpoint": str(run.checkpoint),
        "loss": epochs[-1]["loss"],
        "clusters": last["clusters"],
        "clusters_used": any(line["in_use"] for line in clusterings[:-1]),
        "nmi": last["nmi"],
        "ami": last["ami"],
        "recall": last["recall"],
    }


def _is_whole(epoch: Mapping[str, Any], clusterings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lines of metrics.jsonl hold what is printed of them."""
    last = clusterings[-1]
    recall = {} if last.get("recall", "") is None else last.get("recall")
    if not isinstance(recall, dict) or not {"nmi", "ami"} <= last.keys():
        return False
    numbers = [epoch.get("loss"), *recall.values()]
    numbers += [last[name] for name in ("nmi", "ami") if last[name] is not None]
    counts = [epoch.get("step"), last.get("clusters")]
    return (
        all(isinstance(number, float) for number in numbers)
        and all(isinstance(count, int) for count in counts)
        and all(isinstance(line.get("in_use"), bool) for line in clusterings)
    )
