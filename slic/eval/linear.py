"""`slic eval classify --mode linear`: logistic regression on cached embeddings, in seconds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.config import Feature
from slic.embed.cached import (
    Parts,
    cached_embeddings,
    check_feature,
    evaluation_protocol,
    say_seen,
    split_parts,
)
from slic.errors import LabelsMissing
from slic.eval.outcome import details_of, measure, result_file, write_result
from slic.runs import Run

MOST_ITERATIONS = 2000


def probe(parts: Parts) -> tuple[list[str], NDArray[np.float64]]:
    """A logistic regression on standardised embeddings, fitted on the training side.

    Returns:
        the K classes trained on, sorted, and `(N, K)` probabilities of the test side.

    Raises:
        LabelsMissing: fewer than two classes to tell apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(parts.train_labels)
    if len(classes) < 2:
        raise LabelsMissing("a linear probe needs training videos of two classes at least")
    # Double precision: single precision leaves the solver short of its tolerance.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS))
    model.fit(parts.train.astype(np.float64), parts.train_labels)
    return classes.tolist(), model.predict_proba(parts.test.astype(np.float64))


def linear_probe(
    run: Run,
    *,
    store: str | None,
    split: int,
    clips: int | None,
    feature: Feature,
    device: str,
    workers: int | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fit and measure a probe on embeddings averaged over a video's clips; as `classify`."""
    check_feature(run, feature)
    protocol = evaluation_protocol(run.settings, clips)
    cache, path = cached_embeddings(
        run,
        store=store,
        protocol=protocol,
        split=split,
        device=device,
        workers=workers,
        say=say,
    )
    say_seen(run, path, split, say)
    parts = split_parts(cache, split=split, feature=feature, where=path)
    classes, probabilities = probe(parts)
    outcome = measure(probabilities, classes, parts.test_labels)
    key = {name: str(cache.attributes[name]) for name in ("store_digest", "checkpoint", "protocol")}
    file = result_file(run, path, mode="linear", split=split, key={**key, "feature": feature})
    result = {
        "run": str(run.path),
        "store": str(path),
        "pretrained_on": None if run.imported else run.settings.split,
        "split": split,
        "mode": "linear",
        "train": len(parts.train),
        "validation": 0,
        "test": len(parts.test),
        "top1": outcome.top1,
        "top5": outcome.top5,
        "feature": feature,
        "clips": protocol.clips,
        "crops": 1,
        "per_class": outcome.per_class,
        "confusion": str(file),
        "cache": str(cache.path),
    }
    assert cache.labels is not None
    tested = cache.ids[(cache.labels != "") & (cache.splits[split] == "test")]
    write_result(file, result, details_of(outcome, tested.tolist(), parts.test_labels))
    return result
