"""Read the result of a training from its run folder, and clean up after a killed one."""

from typing import Any

from slic.config import load_method
from slic.engine.divergence import FAILED_STEP
from slic.errors import CheckpointError
from slic.runs import Run


def remove_leftovers(run: Run) -> None:
    """Remove files that a killed process has left incomplete; only for the holder of the lock."""
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
    """Return whether a run has been trained to its end."""
    return bool(run.records("done"))


def result(run: Run) -> dict[str, Any]:
    """Return the result of a finished run, which `slic train --json` prints.

    The values of a method without clusterings are None.

    Raises:
        CheckpointError: lines of its metrics.jsonl are missing.
    """
    epochs, clusterings = run.records("epoch"), run.records("clustering")
    clusters = load_method(run.settings.method, where=str(run.path)).clusters_videos
    try:
        last = clusterings[-1] if clusters else {}
        return {
            "run": str(run.path),
            "epochs": len(epochs),
            "steps": int(epochs[-1]["step"]),
            "checkpoint": str(run.checkpoint),
            "loss": float(epochs[-1]["loss"]),
            "clusters": int(last["clusters"]) if last else None,
            "clusters_used": any(line["in_use"] for line in clusterings[:-1]),
            "nmi": _number(last.get("nmi")),
            "ami": _number(last.get("ami")),
            "recall": _recall(last.get("recall")),
        }
    except (LookupError, TypeError, ValueError, AttributeError):
        raise CheckpointError(
            f"{run.metrics}: lines are missing; the checkpoint is complete"
        ) from None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _recall(values: Any) -> dict[str, float] | None:
    return None if values is None else {k: float(v) for k, v in values.items()}
