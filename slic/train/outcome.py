"""What a run's folder says that its training came to, and what a killed one left there."""

from collections.abc import Mapping, Sequence
from typing import Any

from slic.config import load_method
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
    """What `slic train --json` prints of a finished run; without clusterings their keys are None.

    Raises:
        CheckpointError: lines of its metrics.jsonl are lost.
    """
    epochs, clusterings = run.records("epoch"), run.records("clustering")
    clusters = load_method(run.settings.method, where=str(run.path)).clusters_videos
    if not epochs or bool(clusterings) != clusters or not _is_whole(epochs[-1], clusterings):
        raise CheckpointError(f"{run.metrics}: its lines are lost; the checkpoint is whole")
    last = clusterings[-1] if clusterings else dict.fromkeys(("clusters", "nmi", "ami", "recall"))
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
    if not isinstance(epoch.get("loss"), float) or not isinstance(epoch.get("step"), int):
        return False
    if not all(isinstance(line.get("in_use"), bool) for line in clusterings):
        return False
    return not clusterings or _is_clustering(clusterings[-1])


def _is_clustering(line: Mapping[str, Any]) -> bool:
    recall = {} if line.get("recall", "") is None else line.get("recall")
    if not isinstance(recall, dict) or not {"nmi", "ami"} <= line.keys():
        return False
    numbers = [*recall.values(), *(line[k] for k in ("nmi", "ami") if line[k] is not None)]
    return isinstance(line.get("clusters"), int) and all(isinstance(n, float) for n in numbers)
